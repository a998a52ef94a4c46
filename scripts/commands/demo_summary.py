"""What a demo made, where it lies, and whether its model is any good."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

__all__ = ["summarize"]

MODEL, BASELINE = "val_mean_dice", "image_blind_baseline"


def summarize(folder: str) -> None:
    """Print the summary of a demo.

    Args:
        folder: that the demo wrote.

    Raises:
        FileNotFoundError: if something is missing.
        ValueError: if the model's Dice is not above the baseline's, as a mean or of one class.
    """
    demo = Path(folder)
    lungs = demo / "lung_segmentation"
    (evaluation,) = _existing(lungs / "evaluation", "evaluation.json")
    scores = json.loads(evaluation.read_text(encoding="utf-8"))
    (table,) = _existing(lungs / "evaluation", "cases.csv")
    cases = pd.read_csv(table, dtype=str, keep_default_na=False)["case"].nunique()
    _print_places("encoder", _existing(demo / "med3d_pretraining" / "checkpoints", "encoder.pt"))
    _print_places("model", _existing(lungs / "models", "model.pt"))
    for title, pattern in (("tables", "*.csv"), ("pictures", "*.png")):
        folders = (demo / "med3d_pretraining" / "eval", lungs / "eval", lungs / "evaluation", lungs / "inference")
        _print_places(title, [path for place in folders for path in _existing(place, pattern)])
    _print_places("mask", _existing(lungs / "inference", "*_seg.nii.gz"))
    print(f"\nDice on {cases} synthetic scans that the model was not trained on, and of the average training label,")
    print("which is put over each scan without a look at it:")
    pairs = {"mean": (scores[MODEL], scores[BASELINE])}
    pairs |= {key: (scores[key], scores[f"{BASELINE}/{key}"]) for key in scores if f"{BASELINE}/{key}" in scores}
    for title, (model, baseline) in pairs.items():
        print(f"  {title:12} model {_text(model)}   average label {_text(baseline)}")
    for title, (model, baseline) in pairs.items():
        if model is None or baseline is None or model <= baseline:
            raise ValueError(
                f"The model's Dice ({title}), {_text(model)}, is not above the average label's, {_text(baseline)}: "
                "the demo failed."
            )
    print("All of it is made from synthetic volumes and says nothing about medicine.")


def _existing(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise FileNotFoundError(f"There is no {folder / pattern}; run make demo first.")
    return paths


def _print_places(title: str, paths: Sequence[Path]) -> None:
    for path in paths:
        print(f"{title:9} {path}")


def _text(score: float | None) -> str:
    return "none" if score is None else f"{score:.3f}"
