"""Inference on scans of two channels by all bundles of segmentation; their trainings are with those of the bundles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import load

from med3d_components.commands import segment, train
from med3d_components.job import IncompleteError
from tests.bundles.workflow import (
    copy_bundle,
    export_torchscript,
    leave_model,
    read_config,
    read_table,
    unpack_model,
)
from tests.data.channel_files import write_channels

pytestmark = pytest.mark.usefixtures("narrow_resnets")

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
    write_channels(folder / "Scans")
    return folder


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


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


def test_the_network_of_a_pre_training_has_one_channel(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--in_channels is no id of the training of med3d_pretraining"):
        train("med3d_pretraining", str(data), run_dir=str(tmp_path), in_channels=2)


@pytest.mark.parametrize("name", BUNDLES)
def test_a_model_of_one_channel_of_several_segments_that_of_numbered_files(
    name: str, data: Path, tmp_path: Path
) -> None:
    chosen = tmp_path / "data" / "Scans"
    shutil.copytree(data / "Scans", chosen)
    content = json.loads((chosen / "dataset.json").read_text(encoding="utf-8"))
    (chosen / "dataset.json").write_text(json.dumps({**content, "channel": 1}), encoding="utf-8")
    bundle = copy_bundle(name, tmp_path)
    changes = {**BUNDLES[name]}
    if "coarse" in changes:
        changes["coarse"] = {**COARSE, "network": {**COARSE["network"], "in_channels": 1}}
    second = str(chosen / "imagesTr" / "case_0_0001.nii.gz")
    leave_model(bundle, chosen.parent, scan=second, **changes)
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    pair = [shutil.copy(chosen / "imagesTr" / f"case_0_000{number}.nii.gz", scans) for number in range(2)]
    whole = np.stack([voxels(Path(path)) for path in pair], axis=-1)
    nib.save(nib.Nifti1Image(whole, nib.load(pair[0]).affine), scans / "whole.nii.gz")
    shutil.copy(pair[0], scans / "half_0000.nii.gz")
    with pytest.raises(IncompleteError, match=r"^1 of 3 scans have .* half: the channel 1 is needed, but half"):
        segment(str(bundle), str(scans), str(out))
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["case_0_seg.nii.gz", "whole_seg.nii.gz"]
    mask = voxels(out / "case_0_seg.nii.gz")
    assert 0 < mask.mean() < 1
    assert np.array_equal(mask, voxels(out / "whole_seg.nii.gz"))
