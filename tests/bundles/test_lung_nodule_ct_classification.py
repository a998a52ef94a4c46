"""Real runs of the bundle, on scans with a centre and on cubes without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from med3d_components.networks import DilatedResNet, Med3DClassificationNet
from med3d_components.utils import write_json
from tests.bundles.workflow import configs, copy_bundle, names, read_table
from tests.conftest import ROOT, RunBundle
from tests.data.dicom_files import write_series

SETTINGS = {
    "bundle": "lung_nodule_ct_classification",
    "network": {"task": "classification", "num_classes": 2, "depth": 10},
    "classes": ["benign", "malignant"],
    "cube_spacing": [1, 1, 1],
    "intensity_range": [-1000, 400],
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return copy_bundle("lung_nodule_ct_classification", tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return ten patients with a ball of 4 or 9 mm in the lung, every third as a DICOM series."""
    nodules: list[dict[str, Any]] = []
    generator = np.random.default_rng(0)
    for patient in range(10):
        malignant = patient % 2
        affine, center = np.diag([1.0, 1.0, 2.0, 1.0]), generator.uniform(18, 28, 3).round(1)
        world = np.indices((44, 44, 22)) * np.array([1, 1, 2])[:, None, None, None]
        ball = np.square(world - center[:, None, None, None]).sum(0) <= (4, 9)[malignant] ** 2
        volume = (generator.normal(-850, 30, ball.shape) + 870 * ball).astype(np.int16)
        image = f"images/{patient}" + ("" if patient % 3 == 0 else ".nii.gz")
        (tmp_path / "data" / "images").mkdir(parents=True, exist_ok=True)
        if patient % 3 == 0:
            write_series(tmp_path / "data" / image, volume, affine)
        else:
            nib.save(nib.Nifti1Image(volume, affine), tmp_path / "data" / image)
        nib.save(nib.Nifti1Image(ball.astype(np.uint8), affine), tmp_path / "data" / f"mask_{patient}.nii.gz")
        entry = {"image": image, "mask": f"mask_{patient}.nii.gz", "patient": str(patient)}
        nodules.append({**entry, "center_mm": center.tolist(), "malignancy": [[1, 2, 4], [4, 5, 3]][malignant]})
    write_json(tmp_path / "data" / "dataset.json", {"name": "LIDC-IDRI", "nodules": nodules})
    return tmp_path / "data"


def test_train_from_an_encoder_evaluate_and_infer_from_the_root_inside_and_elsewhere(
    bundle: Path, data: Path, tmp_path: Path, run_bundle: RunBundle
) -> None:
    encoder = {"state_dict": DilatedResNet(10).state_dict(), "settings": {"trained_on": ["LUNA16"]}}
    torch.save(encoder, tmp_path / "encoder.pt")
    smoke = ("--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)
    output = run_bundle("run", "training", *smoke, "--pretrained_weights", tmp_path / "encoder.pt", cwd=ROOT)
    assert "LIDC-IDRI may be among the data" in output
    results = {"metrics.csv", "cases.csv", "curves.png", "cubes.png", "roc.png", "tensorboard"}
    assert names(bundle / "eval") == results
    table = read_table(bundle / "eval" / "metrics.csv")
    about = ["epoch", "step", "time", "learning_rate", "decoder_learning_rate", "train_loss"]
    assert list(table[0])[:10] == [*about, "val_auc", "accuracy", "sensitivity", "specificity"]
    assert all(row["confusion/benign as benign"].isdecimal() for row in table)
    best = torch.load(bundle / "checkpoints" / "last.pt", weights_only=True)["best"]
    assert best["score"] == max(float(row["val_auc"]) for row in table)

    files = "['configs/train.json','configs/evaluate.json']"
    run_bundle("run", "evaluating", "--config_file", files, "--dataset_dir", data, cwd=bundle)
    scores = json.loads((bundle / "eval" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert scores["val_auc"] == pytest.approx(best["score"], abs=1e-6)
    assert scores["size_baseline"] == 1
    assert all(0 <= scores[name] <= 1 for name in ("ece", "size_baseline/ece"))
    rows = read_table(bundle / "eval" / "evaluation" / "cases.csv")
    assert all(float(row["seconds"]) > 0 for row in rows)

    inference = ("run", "inference", "--config_file", bundle / "configs" / "inference.json", "--dataset_dir")
    run_bundle(*inference, data, cwd=tmp_path)
    predictions = read_table(bundle / "eval" / "inference" / "predictions.csv")
    assert [row["case"] for row in predictions] == [str(patient) for patient in range(10)]
    found = {row["case"]: float(row["probability of malignant"]) for row in predictions}
    for row in rows:  # the inference sees a nodule as the evaluation does
        assert found[row["case"]] == pytest.approx(float(row["probability"]), abs=1e-3)


@pytest.mark.slow
def test_foreseeable_mistakes_end_in_one_line(bundle: Path, data: Path, tmp_path: Path, run_bundle: RunBundle) -> None:
    smoke = ("run", "training", "--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)

    def last_line(*arguments: object) -> str:
        return run_bundle(*smoke, *arguments, fails=True).rstrip().splitlines()[-1]

    assert "benign and 0 malignant nodules, but needs both" in last_line("--threshold", 5)
    content = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    content["nodules"][1]["center_mm"] = [0, 0, 500]
    write_json(data / "dataset.json", content)
    line = last_line()
    assert line.startswith("error:")
    assert "1.nii.gz: center_mm [0.0, 0.0, 500.0] lies outside the scan" in line
    (bundle / "models").mkdir()
    torch.save(Med3DClassificationNet(2, 18).state_dict(), bundle / "models" / "model.pt")
    write_json(bundle / "models" / "settings.json", {**SETTINGS, "roi_size": [24] * 3})
    inference = ("run", "inference", "--config_file", bundle / "configs" / "inference.json", "--dataset_dir")
    output = run_bundle(*inference, data / "mask_1.nii.gz", fails=True)
    assert "the file holds a ResNet-18" in output.rstrip().splitlines()[-1]


def test_a_cube_without_a_centre_is_classified_whole(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cubes").mkdir()
    for name, size in (("a", (20, 20, 20)), ("b", (31, 30, 12))):
        cube = np.random.default_rng(0).normal(-500, 100, size).astype(np.float32)
        nib.save(nib.Nifti1Image(cube, np.eye(4)), tmp_path / "cubes" / f"{name}.nii.gz")
    write_json(bundle / "models" / "settings.json", {**SETTINGS, "roi_size": [16] * 3})
    torch.save(Med3DClassificationNet(2, 10).state_dict(), bundle / "models" / "model.pt")
    monkeypatch.chdir(ROOT)
    arguments = {"logging_file": False, "bundle_root": str(bundle), "dataset_dir": str(tmp_path / "cubes")}
    workflow = ConfigWorkflow(str(bundle / "configs" / "inference.json"), **arguments)
    workflow.initialize()
    workflow.run()
    rows = json.loads((bundle / "eval" / "inference" / "predictions.json").read_text(encoding="utf-8"))
    assert [row["case"] for row in rows] == ["a", "b"]
    for row in rows:
        assert row["probability of benign"] + row["probability of malignant"] == pytest.approx(1, abs=1e-5)
