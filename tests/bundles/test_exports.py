"""What a bundle's network becomes outside of this package: TorchScript, ONNX, and a MONAI Deploy application.

TensorRT (`python -m monai.bundle trt_export`) needs a GPU with torch-tensorrt and is not tested here.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, onnx_export
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils import MetaKeys, SpaceKeys
from torch import nn

from tests.bundles.workflow import (
    EXPORT,
    check_export,
    copy_bundle,
    export_torchscript,
    leave_model,
    unpack_model,
)
from tests.conftest import BUNDLES

pytestmark = pytest.mark.usefixtures("narrow_resnets")

NAMES = [bundle.name for bundle in BUNDLES]
# Networks that a bundle has besides its default; that of a coarse genesis segmentation is the lungs'.
OTHER = {
    "genesis_pretraining": "resnet",
    "lung_nodule_ct_classification": "genesis",
    "lung_segmentation": "genesis",
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("name", "changes"),
    [*((name, {}) for name in NAMES), *((name, {"architecture": other}) for name, other in OTHER.items())],
    ids=lambda value: value if isinstance(value, str) else value.get("architecture", "default"),
)
def test_the_torchscript_equals_the_network_and_fits_the_metadata(
    name: str, changes: dict[str, str], varied_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_bundle(name, tmp_path)
    network = leave_model(bundle, varied_data, **changes)
    check_export(bundle, network, monkeypatch)


def compare_onnx(network: nn.Module, *shapes: tuple[int, ...]) -> None:
    """Run model.onnx of the current directory, and compare it with the network."""
    session = onnxruntime.InferenceSession("model.onnx")
    (name,) = [tensor.name for tensor in session.get_inputs()]
    for shape in shapes:
        image = torch.rand(shape)
        (found,) = session.run(None, {name: image.numpy()})
        with torch.no_grad():
            wanted = network(image).numpy()
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-4
        assert np.ptp(wanted) > 1e-3  # a constant would say nothing


# Of torch.export itself, in torch 2.13.
ignore_torch = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")


@ignore_torch
@pytest.mark.parametrize("name", NAMES)
def test_the_onnx_of_a_window_equals_the_network(
    name: str, varied_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes are no multiple of the encoder's stride."""
    bundle = copy_bundle(name, tmp_path)
    network = leave_model(bundle, varied_data)
    monkeypatch.chdir(bundle)
    arguments = {"ckpt_file": "models/model.pt", "key_in_ckpt": "", "input_shape": [1, 1, 24, 20, 17]}
    onnx_export(filepath="model.onnx", **EXPORT, **arguments)
    compare_onnx(network, (1, 1, 24, 20, 17))


@pytest.mark.slow
@ignore_torch
@pytest.mark.parametrize("name", NAMES)
def test_the_onnx_of_any_size_equals_the_network(
    name: str, varied_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_bundle(name, tmp_path)
    network = leave_model(bundle, varied_data)
    monkeypatch.chdir(bundle)
    arguments = {"ckpt_file": "models/model.pt", "key_in_ckpt": "", "input_shape": [2, 1, 32, 32, 32]}
    # With `use_trace`, MONAI hands the further arguments to torch.onnx.export.
    axes = {"x": {0: "batch", 2: "height", 3: "width", 4: "depth"}}
    free = {"use_trace": True, "converter_kwargs": {"dynamo": True, "dynamic_shapes": axes}}
    onnx_export(filepath="model.onnx", **EXPORT, **arguments, **free)
    compare_onnx(network, (2, 1, 32, 32, 32), (1, 1, 24, 20, 17), (3, 1, 40, 33, 31))


class Deployed:
    """What an application of MONAI Deploy makes of a model.ts alone, in the steps of MonaiBundleInferenceOperator."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            texts = [archive.read(f"{path.stem}/extra/{name}.json") for name in ("inference", "metadata")]
        self.parser = ConfigParser(json.loads(texts[0]))
        self.parser.read_meta(json.loads(texts[1]))
        self.device = self.parser.get_parsed_content("device")
        self.inferer = self.parser.get_parsed_content("inferer")
        self.preprocessing, self.postprocessing = map(self.without_files, ("preprocessing", "postprocessing"))
        self.network = torch.jit.load(path, map_location=self.device).eval()

    def without_files(self, name: str) -> Compose:
        """Drop what loads and saves, known by the names of the classes: an application has its images in memory."""
        compose = self.parser.get_parsed_content(name)
        names = {one: type(one).__name__ for one in compose.transforms}
        compose.transforms = tuple(x for x in names if not re.search("LoadImage|SaveImage", names[x]))
        return compose

    @torch.no_grad()
    def __call__(self, value: np.ndarray, meta: Mapping[str, Any]) -> torch.Tensor:
        (image,), (pred,) = (self.parser["_meta_"]["network_data_format"][key] for key in ("inputs", "outputs"))
        items = self.preprocessing({image: MetaTensor.ensure_torch_and_prune_meta(value, dict(meta))})
        predictions = self.inferer(inputs=items[image][None].to(self.device), network=self.network)
        result: torch.Tensor = self.postprocessing({pred: predictions[0], **items})[pred]
        return result


def open_as_deploy(bundle: Path, file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return an image as an operator of MONAI Deploy hands it over: a scan without channels, or a cube of a nodule."""
    if bundle.name == "lung_nodule_ct_classification":
        parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.json"))
        parser["bundle_root"] = str(bundle)
        load = parser.get_parsed_content("preprocessing").transforms[0]
        return load({"image": str(file)})["image"].numpy(), {}
    image = nib.load(file)
    keys = (MetaKeys.AFFINE, MetaKeys.ORIGINAL_AFFINE)
    meta = {**dict.fromkeys(keys, image.affine), MetaKeys.SPATIAL_SHAPE: image.shape, MetaKeys.SPACE: SpaceKeys.RAS}
    return image.get_fdata(dtype=np.float32), {**meta, MetaKeys.ORIGINAL_CHANNEL_DIM: "no_channel"}


def infer(bundle: Path, file: Path) -> np.ndarray:
    """Return the result of the bundle's own inference, of a network as it is exported."""
    source = {"bundle_root": str(bundle), "dataset_dir": str(file), "fuse": False}
    workflow = ConfigWorkflow(str(bundle / "configs" / "inference.json"), logging_file=False, **source)
    workflow.initialize()
    workflow.run()
    results = bundle / "eval" / "inference"
    if bundle.name == "lung_nodule_ct_classification":
        (row,) = json.loads((results / "predictions.json").read_text(encoding="utf-8"))
        return np.array([row["probability of benign"], row["probability of malignant"]])
    (path,) = results.glob("*.nii.gz")
    return np.asarray(nib.load(path).dataobj)


# Of what a zip holds, where the default network is neither small nor narrow.
SMALL = {"genesis_pretraining": {"architecture": "resnet", "intensity_range": [0, 400]}}


@pytest.mark.parametrize("name", NAMES)
def test_a_deployed_torchscript_file_needs_nothing_beside_it_and_does_what_its_zip_does(
    name: str, varied_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = copy_bundle(name, tmp_path)
    leave_model(source, varied_data, **SMALL.get(name, {}))
    bundle = unpack_model(source, tmp_path)
    _, inside = export_torchscript(bundle, monkeypatch)
    trained = json.loads((source / "models" / "settings.json").read_text(encoding="utf-8"))
    assert inside["inference.json"]["settings"]["default"] == trained
    assert inside["metadata.json"]["data_source"] == trained["trained_on"][0]

    file = varied_data / "Scans" / "imagesTr" / "case_0.nii.gz"
    wanted = infer(bundle, file)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    deployed = Deployed((bundle / "models" / "model.ts").rename(tmp_path / "elsewhere" / "model.ts"))
    found = deployed(*open_as_deploy(bundle, file)).squeeze().numpy()
    assert found.shape == wanted.shape
    assert np.ptp(wanted) > 0  # else all would be alike
    assert np.allclose(found, wanted, atol=1e-5)
