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
    for case in ("1", "2"):
        metric.update("heart", case, box(1, 4), box(1, 4))
    assert metric.summary()["liver/liver"] == pytest.approx((1 + 2 * 2 / 8) / 2)
    assert metric.compute() == pytest.approx((0.75 + 1) / 2)


def fill(metric: DomainDice, domain: str, cases: int, right: bool) -> None:
    for case in range(cases):
        metric.update(domain, str(case), box(1, 4 if right else 0), box(1, 4))


def test_a_domain_of_few_cases_weighs_less_and_from_five_on_all_weigh_alike() -> None:
    metric = DomainDice(CLASSES)
    fill(metric, "liver", 100, right=True)
    fill(metric, "heart", 1, right=False)
    assert metric.compute() == pytest.approx(1 / 1.2)
    fill(metric, "heart", 5, right=False)
    assert metric.compute() == pytest.approx(0.5)
    fill(metric, "heart", 50, right=False)
    assert metric.compute() == pytest.approx(0.5)


def test_only_cases_with_a_class_to_score_count_for_a_domain() -> None:
    metric = DomainDice(CLASSES)
    fill(metric, "liver", 5, right=True)
    fill(metric, "heart", 1, right=False)
    for case in range(1, 9):
        metric.update("heart", str(case), box(1, 4), box(1, 0))
    parts = metric.parts("val_mean_dice")
    assert (parts["liver/cases"], parts["heart/cases"]) == (5, 1)
    assert all(isinstance(parts[f"{domain}/cases"], int) for domain in CLASSES)
    assert metric.compute() == pytest.approx(1 / 1.2)


def test_without_a_case_to_score_there_is_no_score() -> None:
    metric = DomainDice(CLASSES)
    metric.update("heart", "1", box(1, 4), box(1, 0))
    assert math.isnan(metric.compute())
    assert metric.parts("val_mean_dice")["heart/cases"] == 0


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_prediction_of_nan_is_not_taken_for_background(wrong: float) -> None:
    prediction = box(1, 4)
    prediction[0, 0, 0, 0] = wrong
    with pytest.raises(ValueError, match="The prediction of case 7 is NaN or infinite"):
        DomainDice(CLASSES).update("heart", "case 7", prediction, box(1, 4))


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
    assert one.cases()["heart"] == 2
