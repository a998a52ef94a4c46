"""The app in MONAI Label's own server: `make test-apps` makes the environment that it needs."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest

from tests.apps.serving import PYTHON, TRAININGS, VENV, Client, run, serve, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.apps,
    pytest.mark.skipif(
        not PYTHON.is_file(),
        reason=f"{VENV} holds no MONAI Label; `make test-apps` makes it, or MONAILABEL_VENV names another",
    ),
]

SCANS = {"lung": "Synthetic_Lungs", "liver": "Synthetic_Livers"}
UNTRAINED = "liver_ct_coarse_segmentation"


class Served(NamedTuple):
    """A running server, the folder of its app, and that of the sample data."""

    client: Client
    app: Path
    data: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Train small networks on sample data, pack them, and serve them: the coarse one without its weights."""
    folder = tmp_path_factory.mktemp("monailabel")
    for of, cases in (("lungs", 8), ("livers", 8), ("nodules", 10)):
        run("scripts/prepare_data.py", "sample", "--out", folder, "--of", of, "--cases", cases)
    for name in TRAININGS:
        weights = ["--weights", train(name, folder)]
        run("scripts/pack_bundles.py", name, "--out", folder / "dist", *(weights if name != UNTRAINED else []))
    run("scripts/monailabel_app.py", "--out", folder / "app", "--zips", folder / "dist")
    studies = folder / "studies"
    studies.mkdir()
    for prefix, data in SCANS.items():
        for case in range(3):
            path = folder / data / "imagesTr" / f"synthetic_00{case}.nii.gz"
            shutil.copy(path, studies / f"{prefix}_{case}.nii.gz")
    shutil.copy(folder / "Synthetic_Nodules" / "images" / "synthetic_000.nii.gz", studies / "chest.nii.gz")
    with serve(folder / "app", studies, folder / "server.log") as client:
        yield Served(client, folder / "app", folder)


def infer_by_command_line(served: Served, model: str, source: Path, *options: object) -> Path:
    """Run the inference of a bundle as it lies in the app, with the server's Python, and return its output folder."""
    target = served.data / "inference" / model
    config = served.app / "model" / model / "configs" / "inference.json"
    places = ("--dataset_dir", source, "--output_dir", target, *options)
    run("-m", "monai.bundle", "run", "inference", "--config_file", config, *places, cwd=served.data, python=PYTHON)
    return target


def mask_of(served: Served, model: str, image: str) -> nib.Nifti1Image:
    status, content = served.client.infer(model, image, output="image")
    assert status == 200, content
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def test_the_server_lists_what_has_weights_and_what_can_be_trained(served: Served) -> None:
    info = served.client.info()
    labels = {name: model["labels"] for name, model in info["models"].items()}
    assert labels == {
        "lung_segmentation": {"right lung": 1, "left lung": 2},
        "liver_ct_fine_segmentation": {"liver": 1},
        "lung_nodule_ct_classification": {"benign": 0, "malignant": 1},
    }
    assert set(info["trainers"]) == {"lung_segmentation", "liver_ct_fine_segmentation", UNTRAINED}
    assert info["trainers"]["lung_segmentation"]["config"]["depth"] == 10  # that of the weights


@pytest.mark.parametrize(
    ("model", "image"), [("lung_segmentation", "lung_0"), ("liver_ct_fine_segmentation", "liver_0")]
)
def test_the_mask_over_http_is_that_of_the_command_line(served: Served, model: str, image: str) -> None:
    source = served.data / "studies" / f"{image}.nii.gz"
    answered = mask_of(served, model, image)
    expected = nib.load(infer_by_command_line(served, model, source) / f"{image}_seg.nii.gz")
    assert np.allclose(answered.affine, expected.affine, atol=1e-4)
    found, wanted = (np.asarray(mask.dataobj) for mask in (answered, expected))
    assert found.dtype == np.uint8
    sizes = int((found > 0).sum()), int((wanted > 0).sum())
    dice = 2 * int(((found == wanted) & (found > 0)).sum()) / max(1, sum(sizes))
    print(f"\n{model}: Dice {dice:.4f} of the server's mask, {sizes[0]} voxels, and the command line's, {sizes[1]}.")
    assert 0 < sizes[1] < wanted.size
    assert dice == 1


def test_the_scores_of_a_nodule_over_http_are_those_of_the_command_line(served: Served) -> None:
    model, data = "lung_nodule_ct_classification", served.data / "Synthetic_Nodules"
    nodule = json.loads((data / "dataset.json").read_text(encoding="utf-8"))["nodules"][0]
    status, content = served.client.infer(model, "chest", center_mm=nodule["center_mm"])
    assert status == 200, content
    scores = {entry["label"]: entry["score"] for entry in json.loads(content)["prediction"]}
    table = infer_by_command_line(served, model, data, "--batch_size", 1) / "predictions.csv"
    with table.open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    print(f"\n{model}: {scores}; the command line has {row['probability of malignant']} for malignant.")
    assert scores["malignant"] == pytest.approx(float(row["probability of malignant"]), abs=1e-6)
    assert sum(scores.values()) == pytest.approx(1, abs=1e-5)


def test_a_mistake_is_answered_with_the_line_that_names_it(served: Served) -> None:
    def line(model: str, image: str = "lung_0", **params: Any) -> tuple[int, str]:
        status, content = served.client.infer(model, image, **params)
        return status, json.loads(content)["detail"]

    assert line("lungs")[0] == 404
    assert "There is no lungs here; there are liver_ct_coarse_segmentation, liver_ct_fine" in line("lungs")[1]
    assert line("lung_segmentation", "lung_7")[1].startswith("There is no image lung_7")
    assert line(UNTRAINED) == (
        409,
        f"{UNTRAINED} has no weights, so it answers nothing yet: label scans and train it, or pack it with --weights.",
    )
    status, text = line("lung_nodule_ct_classification", "chest", center_mm=[0, 0, 9000])
    assert (status, "lies outside the scan" in text) == (400, True)


def test_served_weights_are_trained_further_on_submitted_masks(served: Served) -> None:
    models = served.app / "model" / "lung_segmentation" / "models"
    before = (models / "model.pt").read_bytes()
    for case in range(3):
        label = served.data / "Synthetic_Lungs" / "labelsTr" / f"synthetic_00{case}.nii.gz"
        served.client.submit_label(f"lung_{case}", label)
    task = served.client.train("lung_segmentation", max_epochs=1, num_workers=0, val_split=0.34)
    details = "\n".join(task["details"])
    print("\n" + details[-1500:])
    assert task["status"] == "DONE", details
    assert "unexpected  none" in details  # of the served weights; the task keeps its last lines
    assert (models / "model.pt").read_bytes() != before
    assert (models / "previous" / "1" / "model.pt").read_bytes() == before
    assert (
        mask_of(served, "lung_segmentation", "lung_1").shape == nib.load(label.with_name("synthetic_001.nii.gz")).shape
    )

    # Labels of another organ: the line says so, and what is served stays.
    served_now = (models / "model.pt").read_bytes()
    wrong = nib.load(label)
    nib.save(nib.Nifti1Image(np.full(wrong.shape, 7, np.uint8), wrong.affine), served.data / "wrong.nii.gz")
    served.client.submit_label("lung_2", served.data / "wrong.nii.gz")
    task = served.client.train("lung_segmentation", max_epochs=1, num_workers=0, val_split=0.34)
    assert task["status"] == "ERROR"
    assert task["details"][-1].startswith("error:")
    assert "holds the values 7, but dataset.json declares 0 to 2" in task["details"][-1]
    assert (models / "model.pt").read_bytes() == served_now
    for case in range(3):
        served.client.remove_label(f"lung_{case}")


def test_a_bundle_without_weights_is_trained_and_then_answers_and_a_cascade_is_trained_further(served: Served) -> None:
    for case in range(3):
        label = nib.load(served.data / "Synthetic_Livers" / "labelsTr" / f"synthetic_00{case}.nii.gz")
        liver = (np.asarray(label.dataobj) > 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(liver, label.affine), served.data / "liver.nii.gz")
        served.client.submit_label(f"liver_{case}", served.data / "liver.nii.gz")
    small = {"depth": 10, "patch_size": [32, 32, 32], "num_workers": 0}
    task = served.client.train(UNTRAINED, max_epochs=1, val_split=0.34, **small)
    assert task["status"] == "DONE", "\n".join(task["details"])
    assert served.client.info()["models"][UNTRAINED]["labels"] == {"liver": 1}
    assert mask_of(served, UNTRAINED, "liver_2").shape == label.shape

    cascade = "liver_ct_fine_segmentation"
    config = served.client.info()["trainers"][cascade]["config"]
    # 3D Slicer sends back every option that it was offered, of a list the one that is chosen.
    chosen = {key: next(iter(value), "") if isinstance(value, list) else value for key, value in config.items()}
    task = served.client.train(cascade, **{**chosen, "max_epochs": 1, "num_workers": 0, "val_split": 0.34})
    assert task["status"] == "DONE", "\n".join(task["details"])
    assert mask_of(served, cascade, "liver_2").shape == label.shape


def test_the_server_imports_the_package_of_the_bundles_alone(served: Served) -> None:
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('med3d_components') is not None)"
    run("-c", code, cwd=served.data, python=PYTHON)
