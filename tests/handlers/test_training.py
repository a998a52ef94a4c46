from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from med3d_components.handlers import CaseReport, EvaluationReport, OverlayPictures
from tests.handlers.conftest import Train


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_per_epoch_and_domains_before_classes(train: Train, tmp_path: Path) -> None:
    train([0.2, None, 0.4])
    table = rows(tmp_path / "eval" / "metrics.csv")
    assert list(table[0]) == ["epoch", "train_loss", "val_mean_dice", "liver", "liver/tumour"]
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    assert [row["val_mean_dice"] for row in table] == ["0.2", "", "0.4"]
    assert table[0]["train_loss"] == "1.5"
    assert table[0]["liver/tumour"] == ""


def test_curves_split_and_tensorboard_lie_beside_the_table(train: Train, tmp_path: Path) -> None:
    train([0.2])
    names = {path.name for path in (tmp_path / "eval").iterdir()}
    assert names == {"metrics.csv", "curves.png", "split.json", "tensorboard"}


def test_a_resumed_table_goes_on_where_the_checkpoint_was(train: Train, tmp_path: Path) -> None:
    train([0.2, 0.3])
    # A kill between the table and the checkpoint leaves a row of an epoch that is trained again.
    with (tmp_path / "eval" / "metrics.csv").open("a") as file:
        file.write("3,9.0,0.9,0.9,\n")
    train([0.2, 0.3, 0.4], resume=True)
    table = rows(tmp_path / "eval" / "metrics.csv")
    assert [row["val_mean_dice"] for row in table] == ["0.2", "0.3", "0.4"]


def test_a_fresh_run_moves_an_earlier_report_aside(train: Train, tmp_path: Path) -> None:
    train([0.2])
    train([0.3])
    assert rows(tmp_path / "eval" / "previous" / "1" / "metrics.csv")[0]["val_mean_dice"] == "0.2"
    assert rows(tmp_path / "eval" / "metrics.csv")[0]["val_mean_dice"] == "0.3"


def evaluate(folder: Path) -> None:
    label = torch.zeros(1, 8, 8, 8)
    label[:, 2:5, 2:5, 2:5] = 1
    engine = Engine(lambda engine, batch: [{"image": torch.rand(1, 8, 8, 8), "label": label, "pred": label}])
    engine.add_event_handler(Events.ITERATION_STARTED, set_batch)
    engine.add_event_handler(Events.COMPLETED, set_metrics)
    CaseReport(folder).attach(engine)
    OverlayPictures(folder).attach(engine)
    EvaluationReport(folder).attach(engine)
    engine.run([0, 1])


def set_batch(engine: Engine) -> None:
    engine.state.batch = [{"domain": "liver", "case": str(engine.state.iteration)}]


def set_metrics(engine: Engine) -> None:
    engine.state.metrics = {"val_mean_dice": 1.0, "liver/tumour": float("nan")}
    engine.state.metric_details = {"val_mean_dice": [{"domain": "liver", "case": "1", "tumour": float("nan")}]}


def test_an_evaluation_writes_metrics_cases_and_a_picture_and_keeps_the_earlier_ones(tmp_path: Path) -> None:
    evaluate(tmp_path)
    evaluate(tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8")) == {
        "val_mean_dice": 1.0,
        "liver/tumour": None,
    }
    assert rows(tmp_path / "cases.csv") == [{"domain": "liver", "case": "1", "tumour": ""}]
    for name in ("evaluation.json", "cases.csv", "overlays.png"):
        assert (tmp_path / name).is_file()
        assert (tmp_path / "previous" / "1" / name).is_file()
