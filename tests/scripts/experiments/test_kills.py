from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch

from scripts.experiments.kills import differences, kill_trainings


def leave_run(folder: Path, epochs: int = 2, weight: float = 1.0, seconds: float = 1.0) -> Path:
    """Write what a training leaves behind."""
    for name in ("models", "checkpoints", "eval"):
        (folder / name).mkdir(parents=True)
    torch.save({"weight": torch.tensor([weight])}, folder / "models" / "model.pt")
    torch.save(
        {"state_dict": {"weight": torch.ones(1)}, "settings": {"depth": 10}}, folder / "checkpoints" / "encoder.pt"
    )
    rows = "".join(f"{epoch},0.5,{seconds}\n" for epoch in range(1, epochs + 1))
    (folder / "eval" / "metrics.csv").write_text("epoch,train_loss,time\n" + rows)
    return folder


def test_a_run_that_differs_only_in_its_times_and_in_what_was_moved_aside_is_as_it_should_be(tmp_path: Path) -> None:
    reference, run = leave_run(tmp_path / "a"), leave_run(tmp_path / "b", seconds=2)
    shutil.copytree(run / "models", run / "checkpoints" / "previous" / "1")
    assert differences(reference, run, epochs=2) == []


def test_whatever_a_kill_has_lost_doubled_or_left_is_found(tmp_path: Path) -> None:
    reference, run = leave_run(tmp_path / "a"), leave_run(tmp_path / "b", epochs=3, weight=1 + 2**-23)
    (run / "checkpoints" / "encoder.pt").unlink()
    (run / "eval" / "cases.csv").write_text("case\n")
    (run / "models" / ".writing-a1b2").mkdir()
    (run / "models" / ".writing-a1b2" / "model.pt.half").touch()
    (run / ".writer.json").touch()
    assert differences(reference, run, epochs=2) == [
        ".writer.json is left",
        "models/.writing-a1b2 is left",
        "checkpoints/encoder.pt is missing",
        "eval/cases.csv is one too many",
        "eval/metrics.csv differs",
        "eval/metrics.csv has the epochs [1, 2, 3]",
        "models/model.pt differs",
    ]


def test_an_unknown_target_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="targets has 'lungs', but must be among genesis_pretraining, "):
        kill_trainings(str(tmp_path / "out"), targets="lungs")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_training_that_is_killed_and_resumed_ends_as_one_that_was_let_alone(tmp_path: Path) -> None:
    for kills in (1, 2):  # the second call goes on
        kill_trainings(str(tmp_path), kills=kills, targets="lung_segmentation", epochs=3)
    with (tmp_path / "kills.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["kills"]) for row in rows) == 2
    assert not any(row["problems"] for row in rows)
    with pytest.raises(ValueError, match="seed was 0 and is now 1"):
        kill_trainings(str(tmp_path), kills=2, targets="lung_segmentation", epochs=3, seed=1)
