from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scripts.benchmarks.cases import dice
from scripts.benchmarks.inference import inference, inference_memory


def test_each_ingredient_is_measured_beside_monai_and_all_masks_agree(tmp_path: Path) -> None:
    inference(size=(40, 40, 16), region=(24, 24, 16), out=str(tmp_path))
    rows = json.loads((tmp_path / "inference.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["all", "precision", "fused, channels last", "body alone"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["baseline_s"] / row["ours_s"])
        assert 0.98 < row["dice"] <= 1


def test_the_memory_is_that_of_a_whole_run_in_a_process_of_its_own(tmp_path: Path) -> None:
    inference_memory((40, 36, 20), (2, 2, 2), (3, 3, 3), region=(16, 16, 16), out=str(tmp_path))
    (row,) = json.loads((tmp_path / "inference_memory.json").read_text(encoding="utf-8"))["rows"]
    assert row["peak_mib"] > 200  # the interpreter with torch alone
    assert row["seconds"] > 0


def test_dice_is_the_mean_of_the_classes_that_are_there() -> None:
    a, b = torch.tensor([0, 1, 1, 3]), torch.tensor([0, 1, 0, 3])
    assert dice(a, b) == pytest.approx((2 / 3 + 1) / 2)
    assert str(dice(a * 0, b * 0)) == "nan"


def test_a_trained_network_is_measured_on_a_scan_or_not_at_all() -> None:
    with pytest.raises(ValueError, match="Give both ckpt_dir and image, or neither"):
        inference(ckpt_dir="somewhere")
