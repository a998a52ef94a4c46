from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events

from med3d_components.handlers import CaseReport, EvaluationReport, OverlayPictures, Validation
from tests.handlers.conftest import rows


def evaluate(folder: Path) -> None:
    label = torch.zeros(1, 8, 8, 8)
    label[:, 2:5, 2:5, 2:5] = 1
    engine = Engine(lambda engine, batch: [{"image": torch.rand(1, 8, 8, 8), "label": label, "pred": label}])
    engine.state.key_metric_name = "val_mean_dice"
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
    engine.state.metric_details = {
        "val_mean_dice": [{"domain": "liver", "case": "1", "tumour": float("nan")}],
        "calibration": [{"confidence from": 0.0, "voxels": 0}],
    }


def test_an_evaluation_writes_metrics_cases_and_a_picture_and_keeps_the_earlier_ones(tmp_path: Path) -> None:
    evaluate(tmp_path)
    evaluate(tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8")) == {
        "val_mean_dice": 1.0,
        "liver/tumour": None,
    }
    assert rows(tmp_path / "cases.csv") == [{"domain": "liver", "case": "1", "tumour": ""}]
    for name in ("evaluation.json", "cases.csv", "calibration.csv", "overlays.png"):
        assert (tmp_path / name).is_file()
        assert (tmp_path / "previous" / "1" / name).is_file()


def test_the_rows_of_a_second_metric_get_a_table_named_after_it(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    engine.state.metric_details = {"monai": [{"case": "1", "dice": 1.0}], "lits": [{"case": "1", "rvd": 0.5}]}
    CaseReport(tmp_path, ["monai", "lits"]).attach(engine)
    engine.run([0])
    assert rows(tmp_path / "cases.csv") == [{"case": "1", "dice": "1.0"}]
    assert rows(tmp_path / "cases_lits.csv") == [{"case": "1", "rvd": "0.5"}]


def test_columns_of_other_metrics_stand_in_the_row_of_their_case(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    engine.state.key_metric_name = "dice"
    engine.state.metric_details = {
        "dice": [{"domain": "a", "case": "1", "set": "new", "liver": 1.0}, {"domain": "b", "case": "1", "liver": 0.5}],
        "cost": [
            {"domain": "b", "case": "1", "seconds": 2.0},
            {"domain": "a", "case": "1", "set": "new", "seconds": 1.0},
        ],
    }
    CaseReport(tmp_path, columns=["cost", "what no evaluator has"]).attach(engine)
    engine.run([0])
    assert rows(tmp_path / "cases.csv") == [
        {"domain": "a", "case": "1", "set": "new", "liver": "1.0", "seconds": "1.0"},
        {"domain": "b", "case": "1", "set": "", "liver": "0.5", "seconds": "2.0"},
    ]


@pytest.mark.parametrize(("interval", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_the_last_epoch_is_validated_whatever_the_interval(interval: int, expected: list[int]) -> None:
    validated: list[int] = []
    evaluator = SimpleNamespace(run=validated.append)
    trainer = Engine(lambda engine, batch: None)
    handler = Validation(interval, None)
    handler.validator = evaluator
    handler.attach(trainer)
    trainer.run([0], max_epochs=5)
    assert validated == expected
