from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from med3d_components.planning.rehearsal import bundle_trainer, default_setting
from tests.conftest import BUNDLES, ROOT

LUNG = ROOT / "bundles" / "lung_segmentation"
SMALL: dict[str, dict[str, Any]] = {"genesis_pretraining": {"architecture": "resnet", "cubes_per_scan": 1}}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_every_bundle_takes_two_real_steps_that_change_its_network(bundle: Path) -> None:
    options = {"depth": 10, "learning_rate": 0.1, **SMALL.get(bundle.name, {})}
    trainer = bundle_trainer(bundle, [24, 24, 24], 2, **options)
    before = [x.detach().clone() for x in trainer.network.parameters()]
    trainer.run()
    assert trainer.state.iteration == 2
    assert torch.isfinite(trainer.state.output["loss"])
    assert any(not torch.equal(x, y) for x, y in zip(before, trainer.network.parameters(), strict=True))


def test_a_bundle_that_takes_several_cubes_of_a_scan_has_them_all_in_its_batch() -> None:
    trainer = bundle_trainer(ROOT / "bundles" / "genesis_pretraining", [16, 16, 16], 2)
    assert next(iter(trainer.data_loader))["image"].shape == (6, 1, 16, 16, 16)


def test_a_classification_has_one_label_per_volume_and_a_segmentation_one_per_voxel() -> None:
    classification = bundle_trainer(ROOT / "bundles" / "lung_nodule_ct_classification", [16] * 3, 2, depth=10)
    assert next(iter(classification.data_loader))["label"].shape == (2,)
    segmentation = bundle_trainer(LUNG, [16] * 3, 2, depth=10)
    assert next(iter(segmentation.data_loader))["label"].shape == (2, 1, 16, 16, 16)


def test_options_and_classes_reach_the_network() -> None:
    network = bundle_trainer(LUNG, [16] * 3, 1, num_classes=5, depth=18).network
    assert network.encoder.settings["depth"] == 18
    assert network.decoder.classifier.out_channels == 5


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_batches_have_the_channels_of_the_network(stage: str) -> None:
    trainer = bundle_trainer(ROOT / "bundles" / f"liver_ct_{stage}_segmentation", [16] * 3, 1, depth=10, in_channels=3)
    batch = next(iter(trainer.data_loader))
    assert (batch["image"].shape, batch["label"].shape) == ((1, 3, 16, 16, 16), (1, 1, 16, 16, 16))
    assert trainer.network.encoder.conv1.in_channels == 3


def test_the_default_setting_is_that_of_the_config() -> None:
    assert default_setting(LUNG) == ([96, 96, 96], 2)
    assert default_setting(ROOT / "bundles" / "genesis_pretraining") == ([64, 64, 32], 2)


@pytest.mark.parametrize(
    ("bundle", "region", "batch_size", "options", "message"),
    [
        ("lungs", [16] * 3, 1, {}, "There is no bundle lungs; there are genesis_pretraining,"),
        ("lung_segmentation", [16] * 3, 1, {"dept": 10}, "did you mean --depth?"),
        ("lung_segmentation", [16] * 3, 1, {"xyz": 10}, "--xyz is no id of the bundle lung_segmentation; --help"),
        ("lung_segmentation", [16, 16], 1, {}, r"patch_size is \[16, 16\], but must be one or three integers"),
        ("lung_segmentation", [16] * 3, 0, {}, "batch_size is 0, but must be an integer, 1 or more"),
        ("lung_segmentation", [16] * 3, 1, {"depth": 11}, "^depth is 11, but must be 10, 18"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(
    bundle: str, region: list[int], batch_size: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        bundle_trainer(ROOT / "bundles" / bundle, region, batch_size, **options)
    assert "\n" not in str(caught.value)


def test_another_failure_is_shown_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="Failed to"):
        bundle_trainer(LUNG, [16] * 3, 1, depth=10, learning_rate="$1 / 0")
