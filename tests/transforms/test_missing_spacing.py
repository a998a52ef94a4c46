from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Orientationd

from med3d_components.transforms import EnsureSpacingd, FastLoadImaged, MedianSpacingd


def nifti(path: Path, pixdim: Any, form: str = "none", header_class: Any = nib.Nifti1Header) -> Path:
    """Write a volume whose header holds a voxel size that nibabel itself would not write."""
    header = header_class()
    header.set_data_shape((6, 5, 4))
    header.set_data_dtype(np.int16)
    header.set_data_offset(header.single_vox_offset)
    header["magic"] = header.single_magic
    header["pixdim"][1:4] = pixdim
    if form == "zero sform":
        header["sform_code"] = 1
    elif form == "qform":
        header["qform_code"] = 1
    data = np.arange(120, dtype=np.int16).tobytes()
    with nib.openers.ImageOpener(path, "wb") as file:
        file.write(header.binaryblock.ljust(header.single_vox_offset, b"\0") + data)
    return path


def load(path: Path, *after: Any) -> dict[str, Any]:
    return Compose([FastLoadImaged("image", need_spacing=False), EnsureChannelFirstd("image"), *after])(
        {"image": str(path)}
    )


MISSING = {
    "zero": (0, "none"),
    "zero along one axis": ((0.7, 0.7, 0), "none"),
    "zero with qform": (0, "qform"),
    "NaN": (math.nan, "none"),
    "NaN with qform": (math.nan, "qform"),
    "zero sform": (0, "zero sform"),
    "zero sform alone": (1, "zero sform"),
}


@pytest.mark.parametrize(("pixdim", "form"), MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("name", ["volume-7.nii", "volume-7.nii.gz"])
def test_a_file_without_spacing_gets_that_of_the_training_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pixdim: Any, form: str, name: str
) -> None:
    path = nifti(tmp_path / name, pixdim, form)
    chain = [
        EnsureSpacingd("image", (0.8, 0.75, 1.5)),
        Orientationd("image", "RAS", labels=None),
        MedianSpacingd("image", (0.8, 0.75, 3.0)),
    ]
    image = load(path, *chain)["image"]
    assert image.shape == (1, 6, 5, 2)
    assert image.pixdim.tolist() == pytest.approx([0.8, 0.75, 3.0])
    messages = [record.message for record in caplog.records if record.name.endswith(".spacing")]
    assert len(messages) == 1
    assert name in messages[0]
    assert "0.8 x 0.75 x 1.5 mm" in messages[0]


VALID = {"voxel size": ((0.7, 0.8, 2.5), "none"), "qform": ((0.7, 0.8, 2.5), "qform"), "1 mm": (1, "none")}


@pytest.mark.parametrize(("pixdim", "form"), VALID.values(), ids=VALID)
def test_a_file_with_spacing_stays_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pixdim: Any, form: str
) -> None:
    plain = load(nifti(tmp_path / "volume.nii", pixdim, form))
    image = EnsureSpacingd("image", (9, 9, 9))(plain)["image"]
    assert image is plain["image"]
    assert not [record for record in caplog.records if record.name.endswith(".spacing")]


def test_a_nifti_2_file_is_read_too(tmp_path: Path) -> None:
    path = nifti(tmp_path / "volume.nii", 0, header_class=nib.Nifti2Header)
    assert load(path, EnsureSpacingd("image", (2, 3, 4)))["image"].pixdim.tolist() == [2, 3, 4]
    path = nifti(tmp_path / "other.nii", 1.5, header_class=nib.Nifti2Header)
    assert load(path, EnsureSpacingd("image", (2, 3, 4)))["image"].pixdim.tolist() == [1.5] * 3


def test_known_directions_are_kept_and_the_sample_is_left_alone(tmp_path: Path) -> None:
    before = load(nifti(tmp_path / "volume.nii", 0))
    after = EnsureSpacingd("image", (2, 3, 4))(before)["image"]
    assert before["image"].affine.diagonal().tolist() == [-1, 1, 1, 1]
    assert after.affine.diagonal().tolist() == [-2, 3, 4, 1]
    assert torch.equal(after.as_tensor(), before["image"].as_tensor())


def test_volumes_without_a_file_are_named_by_their_key(caplog: pytest.LogCaptureFixture) -> None:
    volume = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.full((4, 4), torch.nan))
    with caplog.at_level(logging.WARNING):
        result = EnsureSpacingd(["image", "label"], (2, 3, 4))(
            {"image": volume, "label": MetaTensor(volume.as_tensor())}
        )
    assert result["image"].affine.diagonal().tolist() == [2, 3, 4, 1]
    assert result["label"].affine.diagonal().tolist() == [1, 1, 1, 1]
    assert "image (no file)" in caplog.text


@pytest.mark.parametrize("spacing", [(1, 1), (0, 1, 1), (math.nan, 1, 1)])
def test_the_training_sets_spacing_must_be_one(spacing: Any) -> None:
    with pytest.raises(ValueError, match="three positive numbers"):
        EnsureSpacingd("image", spacing)


def test_only_the_liver_bundles_pass_over_a_missing_voxel_size() -> None:
    configs = Path(__file__).parents[2].glob("bundles/*/configs/*.json")
    bundles = {path.parts[-3] for path in configs if '"need_spacing": false' in path.read_text(encoding="utf-8")}
    assert bundles == {"liver_ct_coarse_segmentation", "liver_ct_fine_segmentation"}


def test_a_volume_whose_voxel_size_was_assumed_says_so_where_others_say_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = load(nifti(tmp_path / "none.nii", 0, "qform"), EnsureSpacingd("image", (2, 3, 4)))["image"]
    assert image.meta["spacing_assumed"]
    assert "none.nii gives no voxel size, so lengths and volumes in it are assumed" in caplog.text
    image = load(nifti(tmp_path / "given.nii", 1.5, "qform"), EnsureSpacingd("image", (2, 3, 4)))["image"]
    assert "spacing_assumed" not in image.meta
    assert "given.nii" not in caplog.text
