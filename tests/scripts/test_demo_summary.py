from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from med3d_components.utils import write_json, write_table
from scripts.commands.demo_summary import summarize


def write_demo(folder: Path, model: float | None, right: float | None = 0.9, baseline: float | None = 0.5) -> str:
    lungs = folder / "lung_segmentation"
    scores: dict[str, Any] = {"val_mean_dice": model, "right lung": right, "image_blind_baseline": baseline}
    write_json(lungs / "evaluation" / "evaluation.json", {**scores, "image_blind_baseline/right lung": baseline})
    write_table(lungs / "evaluation" / "cases.csv", [{"case": f"case {case}"} for case in (1, 2, 3)])
    for place in (folder / "med3d_pretraining" / "eval", lungs / "eval", lungs / "inference"):
        write_table(place / "table.csv", [{"x": 1}])
    files = [folder / "med3d_pretraining" / "checkpoints" / "encoder.pt", lungs / "models" / "model.pt"]
    files += [
        place / "a.png" for place in (folder / "med3d_pretraining" / "eval", lungs / "eval", lungs / "evaluation")
    ]
    for path in (*files, lungs / "inference" / "a.png", lungs / "inference" / "new_seg.nii.gz"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(folder)


def test_a_demo_tells_where_everything_lies_and_its_dice_beside_the_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summarize(write_demo(tmp_path, 0.9))
    lines = capsys.readouterr().out.splitlines()
    assert f"mask      {tmp_path / 'lung_segmentation' / 'inference' / 'new_seg.nii.gz'}" in lines
    assert any(line.startswith("Dice on 3 synthetic scans") for line in lines)
    assert "  right lung   model 0.900   average label 0.500" in lines
    assert lines[-1].endswith("says nothing about medicine.")


@pytest.mark.parametrize(("model", "right"), [(0.5, 0.9), (0.4, 0.9), (None, 0.9), (0.9, 0.0), (0.9, None)])
def test_a_demo_whose_model_or_one_class_is_no_better_than_the_baseline_fails(
    model: float | None, right: float | None, tmp_path: Path
) -> None:
    which = "right lung" if model == 0.9 else "mean"
    with pytest.raises(ValueError, match=rf"\({which}\), .*is not above the average label's, 0\.500: the demo failed"):
        summarize(write_demo(tmp_path, model, right))


def test_a_demo_that_is_not_there_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run make demo first"):
        summarize(str(tmp_path))
