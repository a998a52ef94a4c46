"""Every packed bundle in an empty folder, in an interpreter that has neither the repository nor its package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from med3d_components.utils import write_json
from scripts.commands.pack_bundles import pack_bundle
from tests.bundles.workflow import names
from tests.conftest import BUNDLES, ROOT, write_domain

pytestmark = pytest.mark.zips

RunAlone = Callable[..., str]

# Of a bundle's smoke training, beside its data.
OPTIONS = {
    "genesis_pretraining": ("--patch_size", "[24,24,16]", "--intensity_range", "[0,400]", "--max_tissue", "1"),
}
RESULTS = {
    "genesis_pretraining": "case_0_restored.nii.gz",
    "lung_nodule_ct_classification": "predictions.csv",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an interpreter with the installed packages, but without what an editable install adds to its path."""
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder, symlinks=True)
    own = next(folder.glob("lib/*/site-packages"))
    (own / "packages.pth").write_text(f"{next(Path(sys.prefix).glob('lib/*/site-packages'))}\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def run_alone(python: Path, tmp_path_factory: pytest.TempPathFactory) -> RunAlone:
    """Run Python in an empty folder and return what it printed."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(*arguments: object, fails: bool = False) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        command = [str(python), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, encoding="utf-8", check=False
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        return output

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return scans, and cubes of their nodules."""
    folder = write_domain(tmp_path_factory.mktemp("data") / "Scans", cases=6, size=(32, 28, 24))
    nodules = [
        {"image": f"../Scans/imagesTr/case_{case}.nii.gz", "patient": str(case), "malignancy": 1 + 4 * (case % 2)}
        for case in range(6)
    ]
    write_json(folder.parent / "Nodules" / "dataset.json", {"nodules": nodules})
    return folder


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory, run_alone: RunAlone) -> Path:
    """Return a folder into which MONAI's own command has unpacked every zip."""
    dist, folder = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("unpacked")
    for bundle in BUNDLES:
        url = pack_bundle(bundle, dist).as_uri()
        command = ("-m", "monai.bundle", "download", "--name", bundle.name, "--bundle_dir", folder, "--url", url)
        run_alone(*command)
    return folder


def test_the_interpreter_has_no_package_of_its_own(run_alone: RunAlone) -> None:
    assert "No module named 'med3d_components'" in run_alone("-c", "import med3d_components", fails=True)


@pytest.mark.parametrize("name", [bundle.name for bundle in BUNDLES])
def test_a_zip_trains_is_evaluated_infers_loads_and_exports(
    name: str, unpacked: Path, data: Path, run_alone: RunAlone
) -> None:
    bundle = unpacked / name
    source = data.parent / "Nodules" if "nodule" in name else data

    def run(run_id: str, *configs: str) -> str:
        files = str([str(bundle / "configs" / f"{config}.json") for config in configs])
        options = OPTIONS.get(name, ()) if run_id == "training" else ()
        command = ("-m", "monai.bundle", "run", run_id, "--config_file", files, "--dataset_dir")
        return run_alone(
            *command, source / "imagesTr" if run_id == "inference" and source == data else source, *options
        )

    run("training", "train", "smoke")
    assert {"model.pt", "settings.json"} == names(bundle / "models")
    run("evaluating", "train", "evaluate")
    assert (bundle / "eval" / "evaluation" / "evaluation.json").is_file()
    run("inference", "inference")
    assert (bundle / "eval" / "inference" / RESULTS.get(name, "case_0_seg.nii.gz")).is_file()

    common = ("--bundle_root", bundle, "--meta_file", bundle / "configs" / "metadata.json")
    common = (*common, "--config_file", bundle / "configs" / "inference.json")
    shape = ("--p", 1, "--n", 4, "--any", 32, "--device", "cpu")
    output = run_alone("-m", "monai.bundle", "verify_net_in_out", "network_def", *common, *shape)
    assert "verified with no error" in output
    output = run_alone("-m", "monai.bundle", "ckpt_export", "network_def", *common)
    assert "exported to file" in output
    extra = {"inference.json": "", "metadata.json": ""}
    torch.jit.load(bundle / "models" / "model.ts", _extra_files=extra)
    assert json.loads(extra["metadata.json"])["name"]


LOAD_ALL = """
import json, sys, torch
from monai.bundle import load
folder, names = sys.argv[1], sys.argv[2:]
for name in names:
    network = load(name, bundle_dir=folder, workflow_type="inference", device="cpu")
    saved = torch.load(f"{folder}/{name}/models/model.pt", weights_only=True)
    state = network.state_dict()
    assert state.keys() == saved.keys() and all(torch.equal(state[k], saved[k]) for k in saved), name
    print("loaded", name, type(network).__name__)
import med3d_components
print(med3d_components.__file__)
"""


def test_several_zips_load_in_one_process_each_with_its_own_settings(unpacked: Path, run_alone: RunAlone) -> None:
    trained = [bundle.name for bundle in BUNDLES if (unpacked / bundle.name / "models" / "model.pt").is_file()]
    assert len(trained) == len(BUNDLES)  # of the test above
    output = run_alone("-c", LOAD_ALL, unpacked, *trained)
    assert [line.split()[1] for line in output.splitlines() if line.startswith("loaded")] == trained
    assert str(unpacked) in output.rstrip().splitlines()[-1]


RUN_ALL = """
import sys
from monai.bundle import run
folder, scans, names = sys.argv[1], sys.argv[2], sys.argv[3:]
for name in names:
    run("inference", config_file=f"{folder}/{name}/configs/inference.json", dataset_dir=scans, logging_file=False)
"""


def test_several_zips_infer_in_one_process_each_into_its_own_folder(
    unpacked: Path, data: Path, run_alone: RunAlone
) -> None:
    segmenting = ("lung_segmentation", "liver_ct_coarse_segmentation", "liver_ct_fine_segmentation")
    masks = [unpacked / name / "eval" / "inference" / "case_0_seg.nii.gz" for name in segmenting]
    before = [np.asarray(nib.load(mask).dataobj) for mask in masks]
    for mask in masks:
        mask.unlink()
    run_alone("-c", RUN_ALL, unpacked, data / "imagesTr" / "case_0.nii.gz", *segmenting)
    for mask, earlier in zip(masks, before, strict=True):
        assert np.array_equal(np.asarray(nib.load(mask).dataobj), earlier)


def test_a_zip_with_weights_serves_them_wherever_it_is_unpacked(
    unpacked: Path, data: Path, tmp_path: Path, run_alone: RunAlone
) -> None:
    name = "lung_segmentation"
    path = pack_bundle(ROOT / "bundles" / name, tmp_path, unpacked / name / "models" / "model.pt")
    run_alone("-m", "monai.bundle", "download", "--name", name, "--bundle_dir", tmp_path, "--url", path.as_uri())
    config = tmp_path / name / "configs" / "inference.json"
    run_alone("-m", "monai.bundle", "run", "inference", "--config_file", config, "--dataset_dir", data / "imagesTr")
    masks = (nib.load(folder / name / "eval" / "inference" / "case_0_seg.nii.gz") for folder in (tmp_path, unpacked))
    assert np.array_equal(*(np.asarray(mask.dataobj) for mask in masks))
