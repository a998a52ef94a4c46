"""A bundle's inference and evaluation show a network what its training showed it, and build what was trained.

train.json, inference.json and evaluate.json of a bundle describe the same things apart from each other. Here they
prepare the same scan, build the same network and slide the same windows; differences are looked for in what they do,
not in how they are written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, ScaleIntensityRanged
from torch import nn
from torch.nn import functional as F

from med3d_components.utils import write_json
from med3d_components.utils.precision import choose_precision
from tests.bundles.workflow import copy_bundle, read_config, small_training, source_of
from tests.conftest import BUNDLES

pytestmark = pytest.mark.usefixtures("narrow_resnets")

NAMES = [bundle.name for bundle in BUNDLES]
Config = dict[str, Any]

# Small regions, so that a scan has several of them.
SMALL: dict[str, Config] = {
    "genesis_pretraining": {"patch_size": [16, 16, 16], "max_tissue": 1},
    "liver_ct_fine_segmentation": {"patch_size": [16, 16, 16]},
    "lung_segmentation": {"patch_size": [16, 16, 16]},
    "med3d_pretraining": {"patch_size": [16, 16, 16]},
}


def find_differences(bundle: Path, data: Path, **options: Any) -> list[str]:
    """Return in what a bundle's training and inference differ, for the settings that the training writes."""
    training = small_training(bundle, data, **{**SMALL.get(bundle.name, {}), **options})
    inference = ConfigParser(read_config(bundle, "inference"))
    inference["bundle_root"], inference["dataset_dir"] = str(bundle), str(source_of(bundle, data, "inference"))
    inference["settings"] = json.loads(json.dumps(training.get_parsed_content("settings")))
    image, other_image = prepare(bundle.name, training, inference)
    same_image = image.shape == other_image.shape and torch.equal(image, other_image)
    same_image = same_image and torch.equal(image.affine, other_image.affine)
    logits, other_logits = slide(bundle.name, training, inference, image[None])
    found = {
        "network": describe(training) != describe(inference),
        "image": not same_image,
        "windows": not torch.allclose(logits, other_logits, atol=1e-5),
        "evaluation": not is_evaluated_alike(bundle, data, training),
    }
    return [name for name, differs in found.items() if differs]


def is_evaluated_alike(bundle: Path, data: Path, training: ConfigParser) -> bool:
    """Tell whether an evaluation with default options builds the network of a training and prepares a case alike."""
    configs = [bundle / "configs" / f"{name}.json" for name in ("train", "evaluate")]
    evaluation = ConfigParser(ConfigParser.load_config_files(configs))
    evaluation["bundle_root"], evaluation["dataset_dir"] = str(bundle), str(source_of(bundle, data, "train"))
    evaluation["trained"] = json.loads(json.dumps(training.get_parsed_content("settings")))
    evaluation["coarse_checkpoint"] = None
    for name in {"max_tissue", "cubes_per_scan"} & training.get().keys():  # which cubes are drawn is asked for anew
        evaluation[name] = training[name]
    with TemporaryDirectory() as folder:
        write_json(Path(folder) / "split.json", training.get_parsed_content("datalist").split)
        evaluation["ckpt_dir"] = folder
        cases = [each.get_parsed_content("validate#dataset")[0] for each in (training, evaluation)]
    several = [case if isinstance(case, list) else [case] for case in cases]
    same = all(torch.equal(one["image"], other["image"]) for one, other in zip(*several, strict=True))
    return describe(training) == describe(evaluation) and same


def describe(parser: ConfigParser) -> str:
    """Return all that a network is made of: its layers with their arguments, and its settings."""
    network = parser.get_parsed_content("network_def")
    return re.sub(r"Dropout\w*\(p=[\d.]+", "Dropout(", f"{network} {network.encoder.settings}")


def prepare(name: str, training: ConfigParser, inference: ConfigParser) -> tuple[Any, Any]:
    """Return a validation scan as training and as inference prepare it."""
    transforms = list(training.get_parsed_content("deterministic_transforms"))
    if name == "genesis_pretraining":  # training scales after the crop, since that is cheaper; voxels do not notice
        random = training.get_parsed_content("random_transforms")
        transforms += [transform for transform in random if isinstance(transform, ScaleIntensityRanged)]
    item = training.get_parsed_content("datalist").validation[0]
    (same,) = [other for other in inference.get_parsed_content("dataset").data if other["image"] == item["image"]]
    return Compose(transforms)(item)["image"], inference.get_parsed_content("preprocessing")(same)["image"]


class Probe(nn.Module):
    """A network whose result tells where windows lay and in which precision they were computed."""

    def forward(self, x: torch.Tensor, domain: str = "") -> torch.Tensor:
        smooth = F.conv3d(x, torch.full((1, 1, 3, 3, 3), 1 / 27), padding=1)
        rest = smooth - x.mean(dim=(1, 2, 3, 4), keepdim=True) - x.std(dim=(1, 2, 3, 4), keepdim=True)
        rest = rest * torch.linspace(1, 2, x.shape[2])[:, None, None] * torch.linspace(1, 2, x.shape[4])
        return torch.cat([-rest, rest], dim=1)

    locate = forward


def slide(
    name: str, training: ConfigParser, inference: ConfigParser, image: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the inferers of validation and inference make of a scan."""
    if name == "genesis_pretraining":  # validation restores single cubes, of which inference blends many
        h, w, d = training.get_parsed_content("roi_size")
        image = image[..., :h, :w, :d]
    domain = {"domain": training.get_parsed_content("trained_on")[0]} if name == "med3d_pretraining" else {}
    validating, inferring = (
        parser.get_parsed_content(path) for parser, path in ((training, "validate#inferer"), (inference, "inferer"))
    )
    with torch.no_grad():
        return validating(image, Probe(), **domain), inferring(image, Probe())


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_training_and_inference_do_not_differ(bundle: Path, varied_data: Path) -> None:
    assert find_differences(bundle, varied_data) == []


RESNET = {"architecture": "resnet"}
COARSE = {
    "network": {"task": "coarse", "num_classes": {"liver": 2}, "dilations": [1, 2], "depth": 18, "shortcut_type": "A"},
    "roi_size": [24, 24, 24],
    "intensity_range": [0, 280],
    "output_range": [0, 1],
}
CHANGES: dict[str, list[Config]] = {
    "genesis_pretraining": [
        {**RESNET, "depth": 18, "dilations": [1, 2], "widths": [[8, 8], [8, 4], [4, 4]]},
        {"intensity_range": None, "patch_size": [24, 16, 16]},
    ],
    "liver_ct_coarse_segmentation": [
        {"depth": 18, "dilations": [1, 2], "patch_size": [24, 16, 16], "intensity_range": [0, 280]},
        {"architecture": "genesis"},
        {"depth": 200, "preactivation": True, "output_range": [0, 1]},
    ],
    "liver_ct_fine_segmentation": [
        {"depth": 18, "dilations": [1, 2], "rates": [1, 2, 3], "merge_tumours": False, "margin_mm": 3},
        {"coarse": COARSE, "spacing": [1.2] * 3},
    ],
    "lung_nodule_ct_classification": [
        {"depth": 18, "dilations": [1, 2], "patch_size": [16, 16, 12], "cube_spacing": [1, 1.5, 2]},
        {"architecture": "genesis"},
    ],
    "lung_segmentation": [
        {"depth": 18, "dilations": [1, 2], "widths": [[8, 8], [8, 4], [4, 4]], "spacing": [1.2, 1, 1]},
        {"architecture": "genesis"},
        {"percentiles": [5, 90], "shortcut_type": "A"},
    ],
    "med3d_pretraining": [{"depth": 18, "dilations": [1, 2], "percentiles": [5, 90]}],
}


@pytest.mark.parametrize(("name", "changes"), [(name, each) for name, several in CHANGES.items() for each in several])
def test_inference_follows_the_options_of_training(
    name: str, changes: Config, varied_data: Path, tmp_path: Path
) -> None:
    assert find_differences(copy_bundle(name, tmp_path), varied_data, **changes) == []


def transform(config: Config, name: str) -> Config:
    """Return a transform of the preprocessing of an inference.json."""
    (found,) = [each for each in config["preprocessing"]["transforms"] if each["_target_"].endswith(name)]
    return found


def remove(config: Config, name: str) -> None:
    config["preprocessing"]["transforms"].remove(transform(config, name))


def reverse(config: Config) -> None:
    """Let the last two transforms change their places."""
    transforms = config["preprocessing"]["transforms"]
    transforms[-2:] = reversed(transforms[-2:])


Mistake = tuple[str, Callable[[Config], object], str]
OTHER_PRECISION = "bf16" if choose_precision("auto").name == "float32" else "float32"

MISTAKES: dict[str, Mistake] = {
    "dilations": ("lung_segmentation", lambda c: c["network_def"].update(dilations=[2, 2]), "network"),
    "depth": ("liver_ct_fine_segmentation", lambda c: c["network_def"].update(depth=18), "network"),
    "orientation": ("liver_ct_coarse_segmentation", lambda c: remove(c, "Orientationd"), "image"),
    "channel": ("med3d_pretraining", lambda c: remove(c, "ClipIntensityPercentilesd"), "image"),
    "order": ("lung_segmentation", reverse, "image"),
    "spacing": ("liver_ct_fine_segmentation", lambda c: remove(c, "MedianSpacingd"), "image"),
    "cube": (
        "lung_nodule_ct_classification",
        lambda c: transform(c, "LoadImageCubed").update(size=[20, 20, 20]),
        "image",
    ),
    "intensity": (
        "genesis_pretraining",
        lambda c: transform(c, "ScaleIntensityRanged").update(a_max=400),
        "image",
    ),
    "window": (
        "lung_segmentation",
        lambda c: c["inferer"]["inferer"]["inferer"].update(roi_size=[24] * 3),
        "windows",
    ),
    "overlap": ("med3d_pretraining", lambda c: c.update(overlap=0.5), "windows"),
    "margin": (
        "liver_ct_fine_segmentation",
        lambda c: c["inferer"]["inferer"]["inferer"].update(margin_mm=2),
        "windows",
    ),
    "precision": ("lung_nodule_ct_classification", lambda c: c.update(precision=OTHER_PRECISION), "windows"),
}
EVALUATIONS = {
    "genesis_pretraining": "roi_size",
    "liver_ct_coarse_segmentation": "roi_size",
    "liver_ct_fine_segmentation": "network_settings",
    "lung_nodule_ct_classification": "roi_size",
    "lung_segmentation": "network_settings",
    "med3d_pretraining": "network_settings",
}
"""For each bundle an entry of evaluate.json without which an evaluation differs from the training."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_difference_is_found(mistake: str, varied_data: Path, tmp_path: Path) -> None:
    name, change, difference = MISTAKES[mistake]
    bundle = copy_bundle(name, tmp_path)
    content = read_config(bundle, "inference")
    change(content)
    write_json(bundle / "configs" / "inference.json", content)
    assert find_differences(bundle, varied_data) == [difference]


@pytest.mark.parametrize(("name", "entry"), EVALUATIONS.items())
def test_an_evaluation_by_another_option_is_found(name: str, entry: str, varied_data: Path, tmp_path: Path) -> None:
    bundle = copy_bundle(name, tmp_path)
    content = read_config(bundle, "evaluate")
    del content[entry]
    write_json(bundle / "configs" / "evaluate.json", content)
    assert find_differences(bundle, varied_data) == ["evaluation"]
