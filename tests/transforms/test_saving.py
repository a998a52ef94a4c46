from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, SaveImaged, Spacingd

from med3d_components.transforms import FastLoadImaged, SaveImageMasksd, SaveImageVolumesd

CLASSES = ["background", "lung", "tumour"]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scans" / "CASE.NII.GZ"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), np.diag([-2, 2, 3, 1])).to_bytes()))
    return path


def mask_of(scan: Path) -> MetaTensor:
    voxels = np.random.default_rng(0).integers(0, 3, (1, 6, 5, 4), np.uint8)
    return MetaTensor(torch.as_tensor(voxels), meta={"filename_or_obj": str(scan)})


def test_a_result_has_the_name_of_its_case_or_of_its_scan_whatever_the_endings_case(tmp_path: Path, scan: Path) -> None:
    for sample in ({}, {"case": "p1/ct"}):
        SaveImageMasksd("pred", tmp_path / "out", "seg", CLASSES)({"pred": mask_of(scan), **sample})
    for name in ("CASE_seg", "p1/ct_seg"):
        written = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        assert np.array_equal(written.dataobj, mask_of(scan)[0])
        assert {path.name for path in (tmp_path / "out" / name).parent.glob("*_seg.*")} == {
            f"{Path(name).name}{ending}" for ending in (".nii.gz", ".ctbl", ".label.txt")
        }


def test_other_programs_see_that_these_transforms_write_files() -> None:
    for kind in (SaveImageMasksd, SaveImageVolumesd):
        assert issubclass(kind, SaveImaged)
        assert "SaveImage" in kind.__name__


def test_probabilities_on_the_scans_grid_are_those_of_an_inverse_of_all_classes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii.gz"
    voxels = np.random.default_rng(0).normal(size=(12, 10, 8)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([2, -2, 3, 1])), path)
    preprocessing = Compose(
        [FastLoadImaged("image", ensure_channel_first=True), Spacingd("image", (3, 3, 3))],
    )
    sample = preprocessing({"image": str(path)})
    pred = torch.cat([sample["image"], 1 - sample["image"]])
    sample["pred"] = MetaTensor(torch.as_tensor(np.asarray(pred)).float())
    inverse = Invertd("pred", preprocessing, "image", nearest_interp=False, to_tensor=True)
    SaveImageVolumesd("pred", tmp_path, "p", inverse)(sample)
    SaveImageVolumesd("pred", tmp_path, "p", inverse, ["background", "a lung"])(sample)
    whole = inverse(sample)["pred"]
    written = nib.load(tmp_path / "ct_p.nii.gz")
    assert (written.shape, written.get_data_dtype()) == ((12, 10, 8, 2), np.float32)
    assert np.array_equal(written.affine, nib.load(path).affine)
    assert np.allclose(np.moveaxis(np.asarray(written.dataobj), -1, 0), whole, atol=1e-6)
    assert np.array_equal(nib.load(tmp_path / "ct_p_a_lung.nii.gz").dataobj, written.dataobj[..., 1])
    assert sample["pred"].shape == pred.shape
    with pytest.raises(FileExistsError, match=r"ct_p.nii.gz exists already"):
        SaveImageVolumesd("pred", tmp_path, "p", inverse)(sample)
