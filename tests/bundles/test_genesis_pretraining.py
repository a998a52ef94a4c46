"""Real runs of the bundle, and of those that its weights start."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles.workflow import configs, copy_bundle, names, read_table
from tests.conftest import ROOT, MakeDomain, RunBundle

SMALL = ("--patch_size", "[24,24,16]", "--intensity_range", "[0,400]", "--max_tissue", "1")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return copy_bundle("genesis_pretraining", tmp_path)


def test_the_published_network_trains_is_evaluated_restores_and_starts_the_other_bundles(
    bundle: Path, tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    data = make_domain(tmp_path / "Scans", cases=4, size=(32, 28, 24))
    smoke = ("--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)
    run_bundle("run", "training", *smoke, *SMALL, "--patience", 1, "--epochs", 2, cwd=ROOT)
    results = {"metrics.csv", "cases.csv", "curves.png", "restored.png", "tensorboard"}
    assert names(bundle / "eval") == results
    row = read_table(bundle / "eval" / "metrics.csv")[0]
    assert float(row["val_restored"]) == pytest.approx(
        1 - float(row["val_mse"]) / float(row["val_mse/unchanged"]), abs=1e-6
    )

    files = "['configs/train.json','configs/evaluate.json']"
    run_bundle(
        *("run", "evaluating", "--config_file", files, "--dataset_dir", data, "--cubes_per_scan", 1),
        *("--max_tissue", 1, "--num_workers", 0),
        cwd=bundle,
    )
    scores = json.loads((bundle / "eval" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    best = torch.load(bundle / "checkpoints" / "last.pt", weights_only=True)["best"]["score"]
    assert scores["val_restored"] == pytest.approx(best, abs=1e-4)
    assert scores["seconds per scan"] > 0
    assert 0 < scores["val_mse/mean image"] < scores["val_mse/unchanged"]
    assert 0 < scores["val_mse/median filter"] < scores["val_mse/unchanged"]

    inference = ("run", "inference", "--config_file", bundle / "configs" / "inference.json", "--dataset_dir")
    run_bundle(*inference, data / "imagesTr", cwd=tmp_path)
    assert names(bundle / "eval" / "inference") == {"scans.csv", *(f"case_{case}_restored.nii.gz" for case in range(4))}
    restored = nib.load(bundle / "eval" / "inference" / "case_0_restored.nii.gz")
    assert (restored.shape, restored.get_data_dtype()) == ((32, 28, 24), np.float32)
    assert 2 < restored.get_fdata().min() < restored.get_fdata().max() < 400  # HU again, no longer 0 to 1

    lungs = copy_bundle("lung_segmentation", tmp_path)
    smoke = ("run", "training", "--config_file", configs(lungs, "train", "smoke"), "--dataset_dir", data)
    start = ("--architecture", "genesis", "--pretrained_weights", bundle / "checkpoints" / "encoder.pt")
    output = run_bundle(*smoke, *start, "--epochs", 1, "--patch_size", "[16,16,16]")
    assert "out_tr" in output
    assert "100.0 % of the values" in output
    assert "non-commercial" not in output  # these weights are not the published ones
    settings = json.loads((lungs / "models" / "settings.json").read_text(encoding="utf-8"))
    assert (settings["network"]["architecture"], settings["network"]["depth"], settings["intensity_range"]) == (
        "genesis",
        None,
        [-1000, 1000],
    )
    inference = ("run", "inference", "--config_file", lungs / "configs" / "inference.json", "--dataset_dir")
    run_bundle(*inference, data / "imagesTr" / "case_0.nii.gz", cwd=tmp_path)
    assert (lungs / "eval" / "inference" / "case_0_seg.nii.gz").is_file()


def test_an_encoder_pretrained_by_restoration_loads_into_a_med3d_bundle(
    bundle: Path, tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    data = make_domain(tmp_path / "Scans", cases=4, size=(32, 28, 24))
    smoke = ("--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)
    run_bundle("run", "training", *smoke, *SMALL, "--architecture", "resnet", "--fill", "constant", "--epochs", 1)
    encoder = bundle / "checkpoints" / "encoder.pt"

    liver = copy_bundle("liver_ct_coarse_segmentation", tmp_path)
    smoke = ("run", "training", "--config_file", configs(liver, "train", "smoke"), "--dataset_dir", data)
    output = run_bundle(*smoke, "--pretrained_weights", encoder, "--epochs", 1)
    assert "100.0 % of the values" in output
    assert "Scans" in output  # the weights have seen these scans
    line = run_bundle(*smoke, "--architecture", "genesis", "--pretrained_weights", encoder, fails=True).splitlines()[-1]
    assert "--architecture resnet" in line


def test_validation_draws_the_same_cubes_and_distortions_in_every_epoch(
    bundle: Path, tmp_path: Path, make_domain: MakeDomain
) -> None:
    data = make_domain(tmp_path / "Scans", cases=4, size=(32, 28, 24))
    parser = ConfigParser()
    parser.read_config([bundle / "configs" / "train.json", bundle / "configs" / "smoke.json"])
    parser.update({"dataset_dir": str(data), "intensity_range": [0, 400], "max_tissue": 1, "cubes_per_scan": 2})
    dataset = parser.get_parsed_content("validate#dataset")
    first, again = dataset[0], dataset[0]
    assert len(first) == 2
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
    assert not torch.equal(first[0]["label"], first[1]["label"])
    assert any(not torch.equal(item["image"], item["label"]) for item in first)
    assert len(parser.get_parsed_content("train#dataset")) == 3
