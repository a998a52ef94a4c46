from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from med3d_components.handlers import TrainingReport, training
from tests.handlers.conftest import Train, rows


def test_the_table_has_a_row_per_epoch_and_domains_before_classes(train: Train, tmp_path: Path) -> None:
    train([0.2, None, 0.4])
    table = rows(tmp_path / "eval" / "metrics.csv")
    about = ["epoch", "step", "time", "learning_rate", "train_loss"]
    assert list(table[0]) == [*about, "val_mean_dice", "liver", "liver/tumour", "liver/cases"]
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    assert [row["val_mean_dice"] for row in table] == ["0.2", "", "0.4"]
    assert table[0]["train_loss"] == "1.5"
    assert table[0]["liver/tumour"] == ""


def test_the_table_tells_steps_time_and_the_rate_that_an_epoch_had(train: Train, tmp_path: Path) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    train([0.2, 0.3])
    table = rows(tmp_path / "eval" / "metrics.csv")
    assert [row["step"] for row in table] == ["2", "4"]
    assert [row["learning_rate"] for row in table] == ["1.0", "0.5"]
    assert before <= datetime.fromisoformat(table[0]["time"]) <= datetime.now(timezone.utc)


def test_an_epoch_without_a_loss_has_an_empty_cell(train: Train, tmp_path: Path) -> None:
    engine = train([0.2])
    engine.state.losses.clear()
    report = TrainingReport(tmp_path / "eval", engine.state.checkpoint.evaluator)
    report.report(engine)
    assert rows(tmp_path / "eval" / "metrics.csv")[0]["train_loss"] == ""


def test_curves_and_tensorboard_lie_beside_the_table(train: Train, tmp_path: Path) -> None:
    train([0.2])
    names = {path.name for path in (tmp_path / "eval").iterdir()}
    assert names == {"metrics.csv", "curves.png", "tensorboard"}


def test_curves_are_drawn_when_validating_and_at_the_end(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(training, "draw_curves", lambda path, rows, name: drawn.append(rows[-1]["epoch"]))
    train([None, 0.2, None, None])
    assert drawn == [2, 4]


def test_a_resumed_table_goes_on_where_the_checkpoint_was(train: Train, tmp_path: Path) -> None:
    train([0.2, 0.3])
    # A kill between the table and the checkpoint leaves a row of an epoch that is trained again.
    with (tmp_path / "eval" / "metrics.csv").open("a") as file:
        file.write("3,6,2026-01-01T00:00:00+00:00,1.0,9.0,0.9,0.9,,3\n")
    train([0.2, 0.3, 0.4], resume=True)
    table = rows(tmp_path / "eval" / "metrics.csv")
    assert [row["val_mean_dice"] for row in table] == ["0.2", "0.3", "0.4"]


def test_a_resumed_table_keeps_every_earlier_cell_as_it_was(train: Train, tmp_path: Path) -> None:
    train([0.1 + 0.2, 1e-7 / 3])
    before = rows(tmp_path / "eval" / "metrics.csv")
    assert before[0]["liver/cases"] == "3"
    train([0.1 + 0.2, 1e-7 / 3, 0.4], resume=True)
    assert rows(tmp_path / "eval" / "metrics.csv")[:2] == before


def test_a_fresh_run_moves_an_earlier_report_aside(train: Train, tmp_path: Path) -> None:
    train([0.2])
    train([0.3])
    assert rows(tmp_path / "eval" / "previous" / "1" / "metrics.csv")[0]["val_mean_dice"] == "0.2"
    assert rows(tmp_path / "eval" / "metrics.csv")[0]["val_mean_dice"] == "0.3"
