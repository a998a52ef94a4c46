"""Scans of two channels, from a training on weights of one channel to masks, in all bundles of segmentation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, load

from med3d_components.commands import segment
from med3d_components.job import IncompleteError
from med3d_components.networks import DilatedResNet
from med3d_components.utils import write_json
from tests.bundles.workflow import (
    configs,
    copy_bundle,
    export_torchscript,
    leave_model,
    read_config,
    read_table,
    unpack_model,
)
from tests.conftest import MakeDomain, RunBundle, write_domain
from tests.data.channel_files import two_channels

COARSE = {
    "network": {"task": "coarse", "num_classes": {"liver": 2}, "depth": 10, "in_channels": 2},
    "roi_size": [24, 24, 24],
    "intensity_range": [0, 500],
    "output_range": [0, 1],
}
BUNDLES: dict[str, dict[str, Any]] = {
    "lung_segmentation": {},
    "liver_ct_coarse_segmentation": {"intensity_range": [0, 500]},
    "liver_ct_fine_segmentation": {"coarse": COARSE},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a domain of two channels, a file for each."""
    folder = tmp_path_factory.mktemp("data")
    two_channels(write_domain(folder / "Scans", size=(32, 28, 24)), "nnU-Net 1")
    path = folder / "Scans" / "dataset.json"
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), "channel_names": {"0": "T1", "1": "T2"}})
    return folder


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.usefixtures("narrow_resnets")
@pytest.mark.parametrize("name", BUNDLES)
def test_files_of_channels_and_one_file_of_all_have_one_mask(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_bundle(name, tmp_path)
    training = leave(bundle, data, **BUNDLES[name])
    settings = json.loads((bundle / "models" / "settings.json").read_text(encoding="utf-8"))
    assert (settings["network"]["in_channels"], settings["channel_names"]) == (2, ["T1", "T2"])

    scans = tmp_path / "scans"
    scans.mkdir()
    pair = [Path(shutil.copy(path, scans)) for path in sorted(data.glob("Scans/imagesTr/case_0_*"))]
    affine = nib.load(pair[0]).affine
    nib.save(nib.Nifti1Image(np.stack([voxels(path) for path in pair], -1), affine), scans / "whole.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([voxels(path) for path in pair[::-1]], -1), affine), scans / "swapped.nii.gz")
    out = tmp_path / "out"
    table = segment(str(bundle), str(scans), str(out))
    rows = {row["case"]: row for row in read_table(table)}
    assert rows.keys() == {"case_0", "whole", "swapped"}
    assert rows["case_0"]["image"] == "; ".join(map(str, pair))
    masks = {case: voxels(out / f"{case}_seg.nii.gz") for case in rows}
    assert 0 < masks["case_0"].mean() < 1
    assert np.array_equal(masks["case_0"], masks["whole"])
    assert not np.array_equal(masks["case_0"], masks["swapped"])

    packed = unpack_model(bundle, tmp_path)
    described = read_config(packed, "metadata")["network_data_format"]["inputs"]["image"]
    assert (described["num_channels"], described["channel_def"]) == (2, {"0": "T1", "1": "T2"})
    loaded = load(name, bundle_dir=str(packed.parent))
    image = torch.rand(1, 2, 24, 20, 17)
    with torch.no_grad():
        assert torch.equal(loaded(image), training(image))
        exported, _ = export_torchscript(packed, monkeypatch)
        assert torch.allclose(exported(image), training(image), atol=1e-5)


def leave(bundle: Path, data: Path, **changes: Any) -> torch.nn.Module:
    """Leave a model of two channels in a bundle."""
    first = data / "Scans" / "imagesTr" / "case_0_0000.nii.gz"
    pair = [str(first), str(first).replace("_0000", "_0001")]
    return leave_model(bundle, data, scan=pair, in_channels=2, **changes)


@pytest.mark.usefixtures("narrow_resnets")
def test_what_is_wrong_with_a_channel_fails_its_scan_alone(data: Path, tmp_path: Path) -> None:
    bundle = copy_bundle("lung_segmentation", tmp_path)
    leave(bundle, data)
    scans, out = Path(shutil.copytree(data / "Scans" / "imagesTr", tmp_path / "scans")), tmp_path / "out"
    (scans / "case_1_0001.nii.gz").unlink()
    moved = nib.load(scans / "case_2_0001.nii.gz")
    affine = moved.affine.copy()
    affine[0, 3] += 12
    nib.save(nib.Nifti1Image(moved.get_fdata(dtype=np.float32), affine), scans / "case_2_0001.nii.gz")
    nib.save(nib.Nifti1Image(voxels(scans / "case_0_0000.nii.gz"), moved.affine), scans / "single.nii.gz")
    with pytest.raises(IncompleteError, match=r"^3 of 5 scans have no result"):
        segment(str(bundle), str(scans), str(out))
    errors = {row["case"]: row["error"] for row in read_table(out / "scans.csv") if row["error"]}
    assert errors.keys() == {"case_1", "case_2", "single"}
    assert errors["case_1"].startswith("2 channels are needed, but case_1 has files for 0: give each of case_1_0000")
    assert "case_2_0001.nii.gz lies up to 12 mm off" in errors["case_2"]
    assert "the image has 1 channel, but the network takes 2" in errors["single"]

    # What was missing is done by a second run, and a change of any channel is noticed.
    before = {case: (out / f"{case}_seg.nii.gz").stat().st_mtime_ns for case in ("case_0", "case_3")}
    for case in (1, 2):
        shutil.copy(data / "Scans" / "imagesTr" / f"case_{case}_0001.nii.gz", scans)
    (scans / "single.nii.gz").unlink()
    shutil.copy(scans / "case_2_0001.nii.gz", scans / "case_3_0001.nii.gz")
    segment(str(bundle), str(scans), str(out))
    rows = {row["case"]: row for row in read_table(out / "scans.csv")}
    assert not any(rows[f"case_{number}"]["error"] for number in range(4))
    assert (out / "case_0_seg.nii.gz").stat().st_mtime_ns == before["case_0"]
    assert (out / "case_3_seg.nii.gz").stat().st_mtime_ns != before["case_3"]


def test_a_training_starts_from_weights_of_one_channel_and_its_evaluation_agrees(
    data: Path, tmp_path: Path, run_bundle: RunBundle
) -> None:
    bundle = copy_bundle("lung_segmentation", tmp_path)
    torch.save(DilatedResNet(10).state_dict(), tmp_path / "resnet_10_23dataset.pth")
    smoke = ("--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data / "Scans")
    weights = ("--pretrained_weights", tmp_path / "resnet_10_23dataset.pth", "--frozen_stages", "['stem']")
    output = run_bundle("run", "training", *smoke, *weights, "--in_channels", 2)
    assert "adapted     conv1.weight: 1 channel repeated over 2, divided by 2" in output
    assert "channels     T1, T2" in output
    published = torch.load(tmp_path / "resnet_10_23dataset.pth", weights_only=True)["conv1.weight"]
    model = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert torch.equal(model["encoder.conv1.weight"], published.expand(-1, 2, -1, -1, -1) / 2)  # which was frozen

    best = torch.load(bundle / "checkpoints" / "last.pt", weights_only=True)["best"]["score"]
    evaluation = ("--config_file", configs(bundle, "train", "evaluate"), "--dataset_dir", data / "Scans")
    run_bundle("run", "evaluating", *evaluation)
    scores = json.loads((bundle / "eval" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert scores["val_mean_dice"] == pytest.approx(best, abs=1e-6)


@pytest.mark.slow
def test_the_fine_network_takes_the_channels_of_the_coarse_one_and_no_others(
    data: Path, tmp_path: Path, run_bundle: RunBundle, make_domain: MakeDomain
) -> None:
    coarse, fine = (copy_bundle(f"liver_ct_{stage}_segmentation", tmp_path) for stage in ("coarse", "fine"))
    smoke = ("--dataset_dir", data / "Scans", "--epochs", 1, "--config_file")
    run_bundle("run", "training", *smoke, configs(coarse, "train", "smoke"), "--in_channels", 2)
    settings = json.loads((coarse / "models" / "settings.json").read_text(encoding="utf-8"))
    own = {"coarse": settings, "coarse_checkpoint": str(coarse / "models" / "model.pt")}
    write_json(fine / "configs" / "own.json", own)
    files = configs(fine, "train", "smoke", "own")
    run_bundle("run", "training", *smoke, files)
    run_bundle(
        "run", "evaluating", "--dataset_dir", data / "Scans", "--config_file", configs(fine, "train", "evaluate")
    )
    assert (fine / "eval" / "evaluation" / "evaluation.json").is_file()
    one = make_domain(tmp_path / "Livers")
    changes = ("--in_channels", 1, "--dataset_dir", one)
    line = run_bundle("run", "training", *smoke[2:], files, *changes, fails=True).rstrip().splitlines()[-1]
    assert "The coarse network has in_channels 2 and the fine one 1, but both see the same scans" in line


def test_the_network_of_a_pre_training_has_one_channel(tmp_path: Path, data: Path, run_bundle: RunBundle) -> None:
    config = copy_bundle("med3d_pretraining", tmp_path) / "configs" / "train.json"
    assert "in_channels" not in ConfigParser.load_config_file(config)
    arguments = ("--config_file", config, "--dataset_dir", data, "--in_channels", 2)
    line = run_bundle("run", "training", *arguments, fails=True).rstrip().splitlines()[-1]
    assert line.startswith("error: --in_channels is no id of the configs")
