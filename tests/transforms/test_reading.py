from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Invertd, LoadImaged, Orientationd

from med3d_components.transforms import FastLoadImaged
from tests.data.dicom_files import write_series

AFFINE = np.diag([-0.8, -0.8, 2.5, 1.0])


def write(path: Path, values: Any, slope: float | None = None, kind: Any = nib.Nifti1Image) -> str:
    image = kind(values, AFFINE)
    if slope is not None:
        image.header.set_slope_inter(slope, -3.0)
    nib.save(image, path)
    return str(path)


def check_equal(path: str, **settings: Any) -> None:
    ours, stock = (load("image", **settings)({"image": path})["image"] for load in (FastLoadImaged, LoadImaged))
    assert torch.equal(ours.as_tensor(), stock.as_tensor())
    assert ours.dtype == stock.dtype
    assert ours.is_contiguous() == stock.is_contiguous()
    assert torch.equal(ours.affine, stock.affine)
    assert ours.meta["filename_or_obj"] == path
    assert ours.meta["space"] == stock.meta["space"]
    for key in ("spatial_shape", "original_affine", "original_channel_dim"):
        assert np.array_equal(ours.meta.get(key), stock.meta.get(key), equal_nan=True), key


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64", ">i2"])
def test_a_volume_is_the_one_that_monai_loads(tmp_path: Path, dtype: str, kind: Any, ending: str) -> None:
    values = np.random.default_rng(0).normal(0, 50, (17, 9, 12)).astype(dtype)
    check_equal(write(tmp_path / f"ct.{ending}", values, kind=kind), ensure_channel_first=True)


def test_scaled_values_channels_and_other_types_are_those_that_monai_loads(tmp_path: Path) -> None:
    values = np.arange(8 * 7 * 6, dtype=np.int16).reshape(8, 7, 6)
    check_equal(write(tmp_path / "scaled.nii.gz", values, slope=0.37), ensure_channel_first=True)
    check_equal(write(tmp_path / "channels.nii.gz", values.reshape(8, 7, 3, 2)), ensure_channel_first=True)
    check_equal(write(tmp_path / "integers.nii.gz", values), dtype=np.int16)
    check_equal(write(tmp_path / "as_stored.nii.gz", values), dtype=None)


def test_a_file_packed_in_several_parts_is_read_whole(tmp_path: Path) -> None:
    content = Path(write(tmp_path / "ct.nii", np.arange(4096, dtype=np.int16).reshape(16, 16, 16))).read_bytes()
    path = tmp_path / "parts.nii.gz"
    path.write_bytes(gzip.compress(content[:3000]) + gzip.compress(content[3000:]))
    check_equal(str(path))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "ct.nii.gz", np.random.default_rng(0).integers(0, 99, (16, 16, 16), dtype=np.int16)))
    content = path.read_bytes()
    path.write_bytes(content[:-900])
    with pytest.raises(ValueError, match=r"ct\.nii\.gz is cut off"):
        FastLoadImaged("image")({"image": str(path)})
    path.write_bytes(content[:3000] + bytes(100) + content[3100:])
    with pytest.raises(ValueError, match=r"ct\.nii\.gz cannot be read \(.*\); copy it anew"):
        FastLoadImaged("image")({"image": str(path)})


def test_a_dicom_series_is_the_one_that_monai_loads_and_arrays_of_numpy_are_monais(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-1024, 2000, (20, 18, 5), dtype=np.int16)
    write_series(tmp_path / "series", values, np.diag([-0.8, -0.8, 2.5, 1.0]))
    check_equal(str(tmp_path / "series"), ensure_channel_first=True)
    path = write(tmp_path / "ct.nii.gz", values)
    check_equal(path, reader="ITKReader")
    np.save(tmp_path / "volume.npy", values)
    path = str(tmp_path / "volume.npy")
    assert torch.equal(*(load("image")({"image": path})["image"].as_tensor() for load in (FastLoadImaged, LoadImaged)))


def test_what_follows_loading_can_be_inverted(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii.gz", np.arange(8 * 7 * 6, dtype=np.int16).reshape(8, 7, 6))
    chain = Compose([FastLoadImaged("image", ensure_channel_first=True), Orientationd("image", "RAS", labels=None)])
    data = chain({"image": path})
    inverse = Invertd("image", transform=chain, orig_keys="image", nearest_interp=False, to_tensor=True)
    assert torch.equal(inverse(data)["image"], chain.transforms[0]({"image": path})["image"])
