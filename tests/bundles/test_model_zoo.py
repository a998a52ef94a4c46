"""What the MONAI Model Zoo asks of a bundle, in our own words, of each bundle's zip with a model.

That the TorchScript of such a zip can be exported and loaded is a test of test_exports.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from monai.bundle import ConfigWorkflow, verify_net_in_out

from med3d_components.utils import write_json
from tests.bundles.workflow import EXPORT, copy_bundle, leave_model, source_of, unpack_model
from tests.conftest import BUNDLES

pytestmark = pytest.mark.usefixtures("narrow_resnets")

NAMES = [bundle.name for bundle in BUNDLES]
FILES = ("LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.pt")
LARGEST = 25_000_000
"""Bytes of a file in the Zoo's repository; larger ones are named by their address in large_files.yml."""


def find_faults(bundle: Path) -> list[str]:
    """Return what the Zoo would refuse in a bundle's files, a line each."""
    faults = [f"{name} is missing" for name in FILES if not (bundle / name).is_file()]
    listing = bundle / "large_files.yml"
    elsewhere = (
        re.findall(r"path:\s*[\"']?([^\"'\s]+)", listing.read_text(encoding="utf-8")) if listing.exists() else []
    )
    for path in sorted(path for path in bundle.rglob("*") if path.is_file() and path.stat().st_size > LARGEST):
        name = path.relative_to(bundle).as_posix()
        faults += [] if name in elsewhere else [f"{name} is too large"]
    metadata = bundle / "configs" / "metadata.json"
    return faults + (find_metadata_faults(read(metadata)) if metadata.is_file() else [])


def find_metadata_faults(content: Mapping[str, Any]) -> list[str]:
    """Return what the MONAI Bundle specification does not allow in a metadata.json."""
    schema = read(Path(__file__).with_name("metadata_schema.json"))
    faults = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(content)]
    if content.get("version") not in content.get("changelog", {}):
        faults.append("the version is not in the changelog")
    for tensors in content.get("network_data_format", {}).values():
        for name, tensor in tensors.items():
            if list(tensor["channel_def"]) != [str(channel) for channel in range(tensor["num_channels"])]:
                faults.append(f"channel_def of {name} does not name its channels")
    return faults


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


# The default network has 19 million weights.
SMALL = {"genesis_pretraining": {"architecture": "resnet"}}


@pytest.fixture(scope="module", params=NAMES)
def bundle(
    request: pytest.FixtureRequest, varied_data: Path, narrow_resnets: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return where the zip of a bundle with a small model was unpacked."""
    folder = tmp_path_factory.mktemp("packed")
    source = copy_bundle(request.param, folder)
    leave_model(source, varied_data, **SMALL.get(request.param, {}))
    return unpack_model(source, folder)


def test_the_zip_of_a_trained_bundle_has_no_fault(bundle: Path) -> None:
    assert find_faults(bundle) == []


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_the_metadata_of_a_bundle_has_no_fault(path: Path) -> None:
    assert find_metadata_faults(read(path / "configs" / "metadata.json")) == []


def test_what_the_zoo_would_refuse_is_found(tmp_path: Path) -> None:
    bundle = copy_bundle(NAMES[0], tmp_path)
    assert find_faults(bundle) == ["models/model.pt is missing"]
    (bundle / "models").mkdir()
    with (bundle / "models" / "model.pt").open("wb") as file:
        file.truncate(LARGEST + 1)
    (bundle / "LICENSE").unlink()
    assert find_faults(bundle) == ["LICENSE is missing", "models/model.pt is too large"]
    (bundle / "large_files.yml").write_text('large_files:\n  - path: "models/model.pt"\n    url: "https://localhost"\n')
    assert find_faults(bundle) == ["LICENSE is missing"]


Tensors = dict[str, dict[str, Any]]
MISTAKES: dict[str, tuple[str, Callable[[dict[str, Any], Tensors], object]]] = {
    "no changelog": ("'changelog' is a required property", lambda content, _: content.pop("changelog")),
    "version": ("'one' does not match", lambda content, _: content.update(version="one")),
    "old version": ("the version is not in the changelog", lambda content, _: content.update(version="9.9.9")),
    "use": ("Not for clinical use", lambda content, _: content.update(intended_use="diagnosis")),
    "unknown": ("'surprise' was unexpected", lambda content, _: content.update(surprise=1)),
    "deprecated": (
        "'optional_packages_version' was unexpected",
        lambda content, _: content.update(optional_packages_version={}),
    ),
    "range of pins": ("'>=2' does not match", lambda content, _: content["required_packages_version"].update(a=">=2")),
    "modality": ("'modality' is a required property", lambda _, tensors: tensors["pred"].pop("modality")),
    "format": ("'picture' is not one of", lambda _, tensors: tensors["image"].update(format="picture")),
    "one channel": ("1 was expected", lambda _, tensors: tensors["pred"].update(format="segmentation")),
    "shape": ("'large' is not valid", lambda _, tensors: tensors["image"].update(spatial_shape=["large"] * 3)),
    "value range": ("[1] is not valid", lambda _, tensors: tensors["image"].update(value_range=[1])),
    "channels": ("channel_def of pred", lambda _, tensors: tensors["pred"].update(num_channels=5)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_metadata_is_found(mistake: str) -> None:
    content = read(BUNDLES[NAMES.index("lung_segmentation")] / "configs" / "metadata.json")
    message, change = MISTAKES[mistake]
    tensors = content["network_data_format"]
    change(content, {**tensors["inputs"], **tensors["outputs"]})
    assert any(message in fault for fault in find_metadata_faults(content))


def test_the_network_takes_and_gives_what_the_metadata_says(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the smallest sizes that the metadata allows: those the Zoo takes."""
    monkeypatch.chdir(bundle)
    verify_net_in_out(**EXPORT, device="cpu")
    metadata = read(bundle / "configs" / "metadata.json")
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] += 1
    write_json(bundle / "wrong.json", metadata)
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out(**{**EXPORT, "meta_file": "wrong.json"}, device="cpu")
    (bundle / "wrong.json").unlink()


@pytest.mark.parametrize("config", ["train", "inference"])
def test_a_workflow_has_every_property_that_monai_asks(
    bundle: Path, config: str, varied_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle)
    files = [f"configs/{name}.json" for name in ((config, "smoke") if config == "train" else (config,))]
    source = str(source_of(bundle, varied_data, config))
    workflow = ConfigWorkflow(files, logging_file=False, workflow_type=config, dataset_dir=source)
    workflow.initialize()
    assert workflow.check_properties() == []
