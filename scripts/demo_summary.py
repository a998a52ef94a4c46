"""Say what `make demo` made and where it lies; fail unless the model beats a guess that never looks at a scan.

    python scripts/demo_summary.py demo
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

MODEL, BASELINE = "val_mean_dice", "image_blind_baseline"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the summary of a demo.

    Args:
        argv: the command line without the program's name; by default that of this process.

    Raises:
        SystemExit: with one line, if something is missing or the model's Dice is not above the baseline's.
    """
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="folder that the demo wrote")
    folder: Path = parser.parse_args(argv).folder
    lungs = folder / "lung_segmentation"
    scores = json.loads(_existing(lungs / "evaluation", "evaluation.json")[0].read_text(encoding="utf-8"))
    with _existing(lungs / "evaluation", "cases.csv")[0].open(newline="", encoding="utf-8") as file:
        cases = len({row["case"] for row in csv.DictReader(file)})
    _print_places("Encoder", _existing(folder / "med3d_pretraining" / "checkpoints", "encoder.pt"))
    _print_places("Model", _existing(lungs / "models", "model.pt"))
    for title, pattern in (("Tables", "*.csv"), ("Pictures", "*.png")):
        folders = (folder / "med3d_pretraining" / "eval", lungs / "eval", lungs / "evaluation", lungs / "inference")
        _print_places(title, [path for place in folders for path in _existing(place, pattern)])
    _print_places("Mask", _existing(lungs / "inference", "*_seg.nii.gz"))
    print(f"\nDice on {cases} synthetic scans that the model was not trained on, and of the average training label,")
    print("which is put over each scan without a look at it:")
    for name in (MODEL, *(key for key in scores if f"{BASELINE}/{key}" in scores)):
        title, blind = ("mean", BASELINE) if name == MODEL else (name, f"{BASELINE}/{name}")
        print(f"  {title:12} model {_text(scores[name])}   average label {_text(scores[blind])}")
    model, baseline = scores[MODEL], scores[BASELINE]
    if model is None or baseline is None or model <= baseline:
        sys.exit(
            f"error: the model's Dice, {_text(model)}, is not above the average label's, {_text(baseline)}: the demo failed."
        )
    print("All of it is made from synthetic volumes and says nothing about medicine.")


def _existing(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(folder.glob(pattern))
    if not paths:
        sys.exit(f"error: there is no {folder / pattern}; run make demo first.")
    return paths


def _print_places(title: str, paths: Sequence[Path]) -> None:
    for path in paths:
        print(f"{title:9} {path}")


def _text(score: float | None) -> str:
    return "none" if score is None else f"{score:.3f}"


if __name__ == "__main__":
    main()
