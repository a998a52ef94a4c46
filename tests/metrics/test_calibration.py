"""Expected calibration errors that are known, or that another library has computed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from med3d_components.metrics import Calibration
from med3d_components.metrics.calibration import BINS, expected_calibration_error, fill_bins
from med3d_components.transforms import Confidenced
from tests.conftest import ROOT

GOLDEN = json.loads((ROOT / "tests" / "golden" / "calibration_errors.json").read_text(encoding="utf-8"))


def draw(seed: int, classes: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (500, classes) and labels (500,); draws of RandomState are the same in every release."""
    random = np.random.RandomState(seed)
    logits = random.normal(size=(500, classes)) * sharpness
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities, random.randint(0, classes, 500) * (random.rand(500) < 0.5)


@pytest.mark.parametrize("entry", GOLDEN["errors"], ids=lambda entry: f"{entry['classes']} classes")
def test_the_error_is_that_of_torchmetrics(entry: dict[str, float]) -> None:
    probabilities, labels = draw(int(entry["seed"]), int(entry["classes"]), entry["sharpness"])
    bins = fill_bins(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    assert expected_calibration_error(bins) == pytest.approx(entry["ece"], abs=1e-6)


def test_a_network_that_is_right_as_often_as_it_says_has_no_error_and_a_sure_one_that_guesses_all() -> None:
    assert expected_calibration_error(fill_bins([0.75] * 4, [1, 1, 1, 0])) == 0
    assert expected_calibration_error(fill_bins([1.0] * 4, [1, 0, 1, 0])) == 0.5
    assert expected_calibration_error(fill_bins([1.0] * 4, [0] * 4)) == 1
    assert math.isnan(expected_calibration_error(fill_bins([], [])))


def test_a_confidence_between_two_bins_is_of_the_lower_one() -> None:
    counts = fill_bins([0, 1 / 15, 2 / 15 + 1e-9, 1, 1 + 1e-9], [1] * 5)[0]
    assert counts.tolist() == [2, 0, 1, *[0] * (BINS - 4), 2]


def test_background_far_from_all_foreground_says_nothing() -> None:
    label = torch.zeros(1, 30, 30, 30)
    label[:, 10:14, 10:14, 10:14] = 1
    prediction = label.roll(1, 1)  # 5 x 4 x 4 voxels around both, 32 of which are wrong
    confidence = torch.full((1, 30, 30, 30), 0.9)
    metric = Calibration()
    metric.update("-", "a", prediction, label, confidence)
    assert metric.compute() == pytest.approx(abs(0.9 - 48 / 80))
    larger = [torch.nn.functional.pad(volume, (40, 40), value=value) for volume, value in
              ((prediction, 0), (label, 0), (confidence, 1))]  # fmt: skip
    metric.update("-", "a", *larger)
    assert metric.compute() == pytest.approx(abs(0.9 - 48 / 80))
    empty = torch.zeros(1, 4, 4, 4)
    metric.update("-", "b", empty, empty, empty + 1)
    assert metric.compute() == pytest.approx(abs(0.9 - 48 / 80))
    assert metric.summary()["per case"] == pytest.approx(abs(0.9 - 48 / 80))


def test_a_confidence_that_is_no_number_is_refused() -> None:
    label = torch.ones(1, 4, 4, 4)
    with pytest.raises(ValueError, match="The confidence of a is NaN or infinite"):
        Calibration().update("-", "a", label, label, label * math.nan)


def test_the_engine_holds_the_error_its_parts_the_bins_and_a_row_per_case() -> None:
    label = torch.ones(1, 4, 4, 4)
    engine = Engine(lambda engine, sure: [{"pred": label, "label": label, "confidence": label * sure}])
    engine.state.metric_details = {}

    def set_batch(engine: Engine) -> None:
        engine.state.batch = [{"case": str(engine.state.iteration)}]

    engine.add_event_handler(Events.ITERATION_COMPLETED, set_batch)
    Calibration().attach(engine, "ece")
    engine.run([0.9, 0.7])
    assert engine.state.metrics == pytest.approx(
        {"ece": 0.2, "ece/per case": 0.2, "ece/confidence": 0.8, "ece/accuracy": 1}
    )
    assert engine.state.metric_details["ece"] == [
        {"case": "1", "ece": pytest.approx(0.1)},
        {"case": "2", "ece": pytest.approx(0.3)},
    ]
    bins = engine.state.metric_details["calibration"]
    assert [row["voxels"] for row in bins] == [0] * 10 + [64, 0, 0, 64, 0]
    assert bins[13] == pytest.approx(
        {"confidence from": 0.8667, "to": 0.9333, "voxels": 64, "mean confidence": 0.9, "accuracy": 1.0}
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_confidence_is_the_largest_softmax(dtype: torch.dtype) -> None:
    logits = torch.randn(5, 6, 5, 4, generator=torch.Generator().manual_seed(0)).mul(20).to(dtype)
    expected = logits.float().softmax(0).amax(0, keepdim=True)
    found = Confidenced("pred")({"pred": logits})
    torch.testing.assert_close(found["confidence"], expected)
    assert found["pred"] is logits
    same = Confidenced("pred", softmax=False)({"pred": logits.float().softmax(0)})["confidence"]
    torch.testing.assert_close(same, expected)
