from __future__ import annotations

import math

import ignite.distributed as idist
import pytest
import torch
from ignite.engine import Engine, Events

from med3d_components.metrics import DomainDice

CLASSES = {"liver": ["background", "liver", "tumour"], "heart": ["background", "atrium"]}


def box(value: int, length: int, size: int = 8) -> torch.Tensor:
    label = torch.zeros(1, size, size, size)
    label[:, :length] = value
    return label


def test_means_go_over_cases_then_classes_then_domains() -> None:
    metric = DomainDice(CLASSES)
    metric.update("liver", "1", box(1, 4), box(1, 4))
    metric.update("liver", "2", box(1, 2), box(1, 6))
    metric.update("heart", "1", box(1, 4), box(1, 4))
    assert metric.summary()["liver/liver"] == pytest.approx((1 + 2 * 2 / 8) / 2)
    assert metric.compute() == pytest.approx((0.75 + 1) / 2)


def test_a_class_that_a_case_lacks_is_ignored_not_scored() -> None:
    metric = DomainDice(CLASSES)
    metric.update("liver", "1", box(2, 4), box(1, 4))
    summary = metric.summary()
    assert summary["liver/liver"] == 0
    assert math.isnan(summary["liver/tumour"])
    assert summary["liver"] == 0
    assert math.isnan(summary["heart"])


def set_batch(engine: Engine) -> None:
    engine.state.batch = [{"domain": "heart", "case": "7"}]


def test_engine_state_holds_parts_and_rows() -> None:
    metric = DomainDice(CLASSES)
    label = box(1, 4)
    engine = Engine(lambda engine, batch: [{"pred": label, "label": label}])
    engine.state.metric_details = {}
    metric.attach(engine, "val_mean_dice")

    engine.add_event_handler(Events.ITERATION_STARTED, set_batch)
    engine.run([0])
    assert engine.state.metrics["val_mean_dice"] == engine.state.metrics["heart/atrium"] == 1
    assert engine.state.metric_details["val_mean_dice"] == [{"domain": "heart", "case": "7", "atrium": 1.0}]


def test_a_single_dataset_needs_no_name() -> None:
    metric, label = DomainDice(["background", "left lung", "right lung"]), box(1, 4)
    engine = Engine(lambda engine, batch: [{"pred": label, "label": label}])
    engine.state.metric_details = {}
    metric.attach(engine, "val_mean_dice")

    def set_unnamed(engine: Engine) -> None:
        engine.state.batch = [{"case": "7"}]

    engine.add_event_handler(Events.ITERATION_STARTED, set_unnamed)
    engine.run([0])
    assert set(engine.state.metrics) == {"val_mean_dice", "left lung", "right lung"}
    row = engine.state.metric_details["val_mean_dice"][0]
    assert (row["case"], row["left lung"], "domain" in row) == ("7", 1.0, False)


def test_cases_of_all_processes_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = DomainDice(CLASSES), DomainDice(CLASSES)
    one.update("heart", "1", box(1, 4), box(1, 4))
    two.update("heart", "1", box(1, 4), box(1, 4))
    two.update("heart", "2", box(1, 2), box(1, 6))
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(idist, "all_gather", lambda details: [one.details.copy(), two.details.copy()])
    assert one.compute() == pytest.approx(0.75)
