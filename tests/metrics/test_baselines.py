from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from med3d_components.metrics import AverageLabelDice, IntensityWindowDice
from med3d_components.metrics.cases import UNNAMED

CLASSES = {"liver": ["background", "liver"], "heart": ["background", "atrium"]}


def box(length: int, size: int = 8) -> torch.Tensor:
    label = torch.zeros(1, size, size, size)
    label[:, :length] = 1
    return label


def evaluated(metric: Any, outputs: dict[str, torch.Tensor]) -> dict[str, float]:
    """Attach a metric to an engine that gives these outputs for a case without a domain, and run it."""
    engine = Engine(lambda engine, batch: [outputs])
    engine.state.metric_details = {}
    metric.attach(engine, "baseline")
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: setattr(engine.state, "batch", [{"case": "7"}]))
    engine.run([0])
    assert engine.state.metric_details == {}
    return dict(engine.state.metrics)


def test_the_average_label_scores_what_position_alone_tells() -> None:
    baseline = AverageLabelDice(CLASSES, [{"domain": "heart", "label": box(4, size)} for size in (8, 8, 10)])
    baseline.fit()
    assert baseline.predict("heart", torch.rand(1, 8, 8, 8)).sum() == box(4).sum()
    stretched = baseline.predict("heart", torch.rand(1, 16, 8, 8))
    assert stretched.shape == (1, 16, 8, 8)
    assert stretched[0, :, 0, 0].sum() in (7, 8)


def test_a_baseline_is_fitted_when_the_evaluation_starts_and_leaves_no_rows() -> None:
    baseline = AverageLabelDice(["background", "left", "right"], [{"label": box(4)}])
    scores = evaluated(baseline, {"image": box(2), "pred": box(8), "label": box(2)})
    assert set(scores) == {"baseline", "baseline/left", "baseline/right"}
    assert scores["baseline/left"] == pytest.approx(2 * 2 / (2 + 4))


def test_a_window_of_intensities_takes_the_largest_piece_of_what_is_as_bright() -> None:
    torch.manual_seed(0)
    training = [{"image": 50 * box(4) + torch.randn(1, 8, 8, 8), "label": box(4)} for _ in range(2)]
    image = torch.zeros(1, 8, 8, 8)
    image[:, :3], image[:, 4:6], image[:, 7] = 50, 100, 50
    scores = evaluated(
        IntensityWindowDice(["background", "liver"], training), {"image": image, "pred": image, "label": box(3)}
    )
    assert scores == {"baseline": 1, "baseline/liver": 1}


def test_of_several_channels_the_window_is_that_of_the_first() -> None:
    torch.manual_seed(0)
    first = 50 * box(4) + torch.randn(1, 8, 8, 8)
    windows = []
    for image in (first, torch.cat([first, 1000 - first])):
        baseline = IntensityWindowDice(["background", "liver"], [{"image": image, "label": box(4)}])
        baseline.fit()
        windows.append((baseline.windows, baseline.predict(UNNAMED, image).shape))
    assert windows[0] == windows[1]


def test_the_window_reaches_two_standard_deviations_of_its_domains_foreground() -> None:
    torch.manual_seed(0)
    noise = 3 * torch.randn(1, 40, 40, 40) + 20
    label = torch.zeros_like(noise)
    label[:, 5:35] = 2
    training = [
        {"domain": "heart", "image": noise, "label": label},
        {"domain": "liver", "image": box(2), "label": box(2)},
    ]
    baseline = IntensityWindowDice(CLASSES, training)
    baseline.fit()
    assert baseline.windows["heart"] == pytest.approx((14, 26), abs=0.1)
    assert baseline.windows["liver"] == (1, 1)
    assert not baseline.predict("heart", torch.zeros(1, 8, 8, 8)).any()


@pytest.mark.parametrize("baseline", [AverageLabelDice, IntensityWindowDice])
def test_a_baseline_without_training_cases_is_left_out_and_said(
    baseline: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    outputs = {"image": torch.rand(1, 8, 8, 8), "label": box(4)}
    assert evaluated(baseline(["background", "liver"], []), outputs) == {}
    assert "baseline is left out: there is no training case to fit it to" in caplog.text
    # Nor is a domain scored of which there is none.
    fitted = baseline(CLASSES, [{"domain": "heart", "image": torch.rand(1, 8, 8, 8), "label": box(4)}])
    fitted.fit()
    fitted.add({"domain": "liver", "case": "1"}, outputs)
    assert fitted.details == {}
