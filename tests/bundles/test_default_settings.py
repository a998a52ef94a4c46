"""What an inference.json assumes before anything is trained is what its train.json would write into settings.json."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from med3d_components.utils import write_json
from tests.bundles.workflow import copy_bundle, read_config, source_of
from tests.conftest import BUNDLES

pytestmark = pytest.mark.usefixtures("narrow_resnets")

Config = dict[str, Any]


def find_wrong_defaults(bundle: Path, data: Path) -> list[str]:
    """Return which settings inference.json assumes, before anything is trained, unlike what training would write."""
    inference, train = read_config(bundle, "inference"), read_config(bundle, "train")
    default = inference["settings"]["default"]
    used = set(re.findall(r"settings\['(\w+)'\]", json.dumps(inference)))
    wrong = [name for name in sorted(used) if name not in default]
    coarse = re.findall(r"settings\['coarse'\]\['(\w+)'\]", json.dumps(inference))
    wrong += [f"coarse {name}" for name in coarse if name not in default["coarse"]]

    parser = ConfigParser(train)
    parser["bundle_root"], parser["dataset_dir"] = str(bundle), str(source_of(bundle, data, "train"))
    if "coarse" in train:
        first = next(path for path in BUNDLES if "coarse" in path.name)
        parser["coarse"], parser["coarse_checkpoint"] = read_config(first, "inference")["settings"]["default"], None
    written = json.loads(json.dumps(parser.get_parsed_content("settings")))
    for name, value in default.items():
        from_data = "@datalist" in str(train.get(name))
        if name == "network":  # how many classes there are is told by data
            made, value = ({**each, "num_classes": None} for each in (written[name], value))
            wrong += [key for key, entry in value.items() if not is_part(entry, made.get(key))]
        elif name not in written or not (from_data or is_part(value, written[name])):
            wrong.append(name)
    classes = default.get("classes", [])
    names = next(iter(classes.values())) if isinstance(classes, dict) else classes
    described = read_config(bundle, "metadata")["network_data_format"]["outputs"]["pred"]["channel_def"]
    return wrong + (["classes of the metadata"] if names and names != list(described.values()) else [])


def is_part(value: Any, whole: Any) -> bool:
    """Tell whether a value equals another, of which it may leave entries out if both are mappings."""
    if isinstance(value, Mapping):
        return all(name in whole and whole[name] == entry for name, entry in value.items())
    return bool(value == whole)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_inference_assumes_what_training_writes_by_default(bundle: Path, varied_data: Path) -> None:
    assert find_wrong_defaults(bundle, varied_data) == []


MISTAKES: dict[str, tuple[str, str, Callable[[Config], object], list[str]]] = {
    "another value": (
        "liver_ct_coarse_segmentation",
        "inference",
        lambda config: config["settings"]["default"].update(intensity_range=[-100, 250]),
        ["intensity_range"],
    ),
    "no value": (
        "lung_nodule_ct_classification",
        "inference",
        lambda config: config["settings"]["default"].pop("roi_size"),
        ["roi_size"],
    ),
    "another class": (
        "lung_segmentation",
        "inference",
        lambda config: config["settings"]["default"].update(classes=["background", "kidney"]),
        ["classes of the metadata"],
    ),
    "another training": (
        "lung_segmentation",
        "train",
        lambda config: config.update(depth=18),
        ["depth", "shortcut_type"],
    ),
    "unwritten": ("med3d_pretraining", "train", lambda config: config["settings"].pop("percentiles"), ["percentiles"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_default_is_found(mistake: str, varied_data: Path, tmp_path: Path) -> None:
    name, file, change, wrong = MISTAKES[mistake]
    bundle = copy_bundle(name, tmp_path)
    config = read_config(bundle, file)
    change(config)
    write_json(bundle / "configs" / f"{file}.json", config)
    assert find_wrong_defaults(bundle, varied_data) == wrong
