"""Parts of the package compute on a device what they compute on a CPU, wherever what they are given lies."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.metrics import Metric
from monai.data import MetaTensor
from monai.transforms import Compose, Transform

from med3d_components.inferers import BodyWindowInferer, CascadeInferer
from med3d_components.metrics import (
    AverageLabelDice,
    BinaryClassification,
    Calibration,
    DomainDice,
    IntensityWindowDice,
    LesionDetection,
    LitsMetrics,
    Restoration,
    SurfaceMetrics,
)
from med3d_components.networks import Med3DDenseASPPNet
from med3d_components.transforms import (
    CheckImaged,
    Confidenced,
    EnsureSpacingd,
    FastClipIntensityPercentilesd,
    InvertToLabelsd,
    MedianSpacing,
    MedianSpacingd,
    RandBezierIntensityd,
    RandFlipsd,
    RandForegroundCropd,
    RandPaintd,
    RandPixelShuffled,
    RandRegionOfInterestd,
    RandTissueCropd,
)
from tests.device.workflow import DEVICE_ERROR, DEVICES

CLASSES = ["background", "liver"]
BOTH = ["image", "label"]


@pytest.fixture(scope="module", params=[pytest.param(name, marks=mark) for name, mark in DEVICES.items()])
def device(request: pytest.FixtureRequest) -> str:
    """Return the name of a device that torch knows in this process."""
    if request.param == "egpu":
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(Path(__file__).parent / "egpu")
            patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # ninja is there
            importlib.import_module("egpu")
    return str(request.param)


def sample(seed: int = 0) -> dict[str, Any]:
    """Return a scan in [0, 1] with a bright box, and the box."""
    image = torch.rand(1, 24, 20, 16, generator=torch.Generator().manual_seed(seed)) / 2
    label = torch.zeros(1, 24, 20, 16)
    label[:, 6:16, 5:14, 4 + seed : 11] = 1
    affine = torch.diag(torch.tensor([1.0, 1.0, 1.5, 1.0]))
    return {"image": MetaTensor(image + label / 2, affine=affine), "label": MetaTensor(label, affine=affine)}


def move(item: Mapping[str, Any], device: str) -> dict[str, Any]:
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in item.items()}


def test_an_operation_in_place_changes_its_part_of_a_tensor_alone(device: str) -> None:
    # Of the emulated device itself.
    whole, part = torch.rand(6, 6, 6), torch.rand(4, 4, 4)
    there = whole.to(device)
    for volume in (whole, there):
        volume[1:5, 2:6, :4].mul_(part.to(volume.device))
        volume.permute(2, 0, 1)[::2] += 1
        volume[volume > 1.5] = 0
    assert torch.equal(there.cpu(), whole)


def test_two_devices_in_one_operation_and_numpy_of_a_device_are_refused(device: str) -> None:
    there = torch.ones(2, 1, device=device)
    with pytest.raises(RuntimeError, match=DEVICE_ERROR):
        torch.cat([there, torch.ones(2, 1)])
    with pytest.raises(RuntimeError, match="device"):
        torch.nn.Linear(1, 1)(there)
    with pytest.raises(TypeError, match=DEVICE_ERROR):
        there.numpy()
    assert (there + torch.tensor(1.0)).device.type == device  # a number may lie on the CPU


METRICS = {
    "DomainDice": lambda training: DomainDice(CLASSES),
    "SurfaceMetrics": lambda training: SurfaceMetrics(CLASSES),
    "LitsMetrics": lambda training: LitsMetrics(),
    "LesionDetection": lambda training: LesionDetection(CLASSES),
    "Calibration": lambda training: Calibration(),
    "AverageLabelDice": lambda training: AverageLabelDice(CLASSES, training),
    "IntensityWindowDice": lambda training: IntensityWindowDice(CLASSES, training),
    "Restoration": Restoration,
    "Restoration without baselines": lambda training: Restoration(),
}
PLACES = ("cpu", "the device")


@pytest.mark.parametrize("training_on", PLACES)
@pytest.mark.parametrize("label_on", PLACES)
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_scores_alike_wherever_predictions_labels_and_training_items_lie(
    name: str, label_on: str, training_on: str, device: str
) -> None:
    training = [sample(1), sample(2)]
    output = {**sample(), "pred": sample(3)["label"], "confidence": sample(3)["image"]}
    expected = score(METRICS[name](training), output)
    training = [move(item, device if training_on == PLACES[1] else "cpu") for item in training]
    label = move({"label": output["label"]}, device if label_on == PLACES[1] else "cpu")
    found = score(METRICS[name](training), {**move(output, device), **label})
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


def score(metric: Metric, output: dict[str, Any]) -> dict[str, float]:
    if hasattr(metric, "fit") and metric.training is not None:
        metric.fit()
    batch = [{"case": "a", "image": output["image"]}]
    metric.iteration_completed(SimpleNamespace(state=SimpleNamespace(batch=batch, output=[output])))
    value = metric.compute()
    return {"value": value, **metric.summary()}


def test_a_classification_is_scored_alike_on_the_device(device: str) -> None:
    metrics = [BinaryClassification(["benign", "malignant"]) for _ in range(2)]
    batch = [{"case": str(case), "patient": str(case), "malignancy": 1 + 4 * (case % 2)} for case in range(4)]
    for metric, place in zip(metrics, ("cpu", device), strict=True):
        outputs = [
            {"pred": torch.tensor([1 - p, p], device=place), "label": torch.tensor(case % 2, device=place)}
            for case, p in enumerate((0.2, 0.7, 0.6, 0.9))
        ]
        metric.iteration_completed(SimpleNamespace(state=SimpleNamespace(batch=batch, output=outputs)))
    assert metrics[0].compute() == metrics[1].compute() == 1
    assert metrics[0].summary() == pytest.approx(metrics[1].summary(), nan_ok=True)


TRANSFORMS: dict[str, Transform] = {
    "CheckImaged": CheckImaged("image"),
    "EnsureSpacingd": EnsureSpacingd(BOTH, (1, 1, 1)),
    "FastClipIntensityPercentilesd": FastClipIntensityPercentilesd("image", 5, 95),
    "MedianSpacingd": MedianSpacingd(BOTH, (1.3, 1.3, 1.3)),
    "RandBezierIntensityd": RandBezierIntensityd("image", prob=1),
    "RandForegroundCropd": RandForegroundCropd(BOTH, (8, 8, 8)),
    "RandFlipsd": RandFlipsd(BOTH, prob=1),
    "RandPaintd": RandPaintd("image", prob=1),
    "RandPixelShuffled": RandPixelShuffled("image", prob=1, windows=50),
    "RandRegionOfInterestd": RandRegionOfInterestd(BOTH, expand_mm=3, translate_mm=8, rotate_degrees=10),
    "RandRegionOfInterestd, unturned": RandRegionOfInterestd(BOTH, expand_mm=30, translate_mm=8),
    "RandTissueCropd": RandTissueCropd(BOTH, (8, 8, 8), threshold=0.5, margin=(0, 0, 0)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_computes_alike_on_the_device_and_stays_there(name: str, device: str) -> None:
    results = []
    for place in ("cpu", device):
        transform = Compose([TRANSFORMS[name]]).set_random_state(seed=3)
        found = transform(move(sample(), place))
        results.append(found[0] if isinstance(found, list) else found)
    for key in BOTH:
        expected, found = (result[key] for result in results)
        assert found.device.type == device
        torch.testing.assert_close(found.as_tensor().cpu(), expected.as_tensor(), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.affine.cpu(), expected.affine)


def test_the_confidence_is_computed_alike_on_the_device_and_stays_there(device: str) -> None:
    logits = torch.randn(3, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    expected, found = (Confidenced("pred")({"pred": logits.to(place)})["confidence"] for place in ("cpu", device))
    assert found.device.type == device
    torch.testing.assert_close(found.cpu(), expected)


def test_probabilities_of_the_device_become_the_labels_that_they_become_on_a_cpu(device: str) -> None:
    resample = Compose([MedianSpacingd("image", (2, 2, 2))])
    item = resample(sample())
    pred = MetaTensor(torch.cat([item["image"] * 0 + 0.45, item["image"]]), meta=item["image"].meta)
    invert = InvertToLabelsd("pred", resample, "image", nearest_interp=False)
    labels = [invert({**item, "pred": pred.to(place)})["pred"] for place in ("cpu", device)]
    assert labels[1].device.type == device
    assert 0 < labels[0].sum() < labels[0].numel()
    assert torch.equal(labels[1].as_tensor().cpu(), labels[0].as_tensor())
    back = MedianSpacing((2, 2, 2))
    scan = sample()["image"].to(device)
    assert back.inverse(back(scan)).shape == scan.shape


class Threshold(torch.nn.Module):
    """Both stages of a cascade: what is brighter than 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - x, x - 0.5], dim=1)

    locate = forward


@pytest.mark.parametrize(
    "inferer",
    [
        CascadeInferer((12, 12, 12), (12, 12, 12), margin_mm=2, spacing=(1, 1, 1.5)),
        BodyWindowInferer((12, 12, 12), sw_batch_size=3),
    ],
    ids=["cascade", "body"],
)
def test_an_inferer_finds_on_the_device_what_it_finds_on_a_cpu(inferer: Any, device: str) -> None:
    batch = MetaTensor(torch.stack([sample(seed)["image"].as_tensor() for seed in range(2)]))
    batch.affine = sample()["image"].affine
    expected, found = (inferer(batch.to(place), Threshold()) for place in ("cpu", device))
    assert found.device.type == device
    torch.testing.assert_close(found.as_tensor().cpu(), expected.as_tensor(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("reduced", [False, True])
def test_checkpointing_changes_no_gradient_on_the_device(reduced: bool, device: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = Med3DDenseASPPNet(depth=10, roi_size=(32, 32, 32), checkpointing=checkpointing, dropout=0).to(device)
        volume = torch.rand(1, 1, 32, 32, 32).to(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=reduced):
            network(volume).float().square().mean().backward()
        gradients.append([x.grad.cpu() for x in network.parameters()])
    for expected, found in zip(*gradients, strict=True):
        # A GPU adds up in another order each time.
        torch.testing.assert_close(found, expected, atol=0.02 * float(expected.abs().max()), rtol=0)
