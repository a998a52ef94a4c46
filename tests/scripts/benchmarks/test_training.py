from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks.training import training


def test_both_steps_start_from_one_network_and_loss(tmp_path: Path) -> None:
    training(depths=(10,), sizes=(24,), repeats=1, out=str(tmp_path))
    (row,) = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))["rows"]
    assert row["name"] == "depth 10, 24 cubed"
    assert row["ratio"] == pytest.approx(row["baseline_s"] / row["ours_s"])
    assert row["first loss ours"] == pytest.approx(row["first loss baseline"], rel=0.02)
