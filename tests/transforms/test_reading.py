from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Invertd, LoadImaged, Orientationd, ResampleToMatchd

from med3d_components.transforms import EnsureSpacingd, FastLoadImaged, LoadLabeld
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


def pair(folder: Path, label: Any, affine: Any = AFFINE, shape: tuple[int, ...] = (8, 7, 6)) -> dict[str, str]:
    """Write an image, and a label that may lie elsewhere."""
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    nib.save(nib.Nifti1Image(label, affine), folder / "label.nii.gz")
    return {"image": write(folder / "image.nii.gz", image), "label": str(folder / "label.nii.gz"), "case": "p_7"}


LABEL = np.random.default_rng(1).integers(0, 3, (8, 7, 6)).astype(np.uint8)


def test_a_label_on_its_image_is_the_one_that_monai_loads(tmp_path: Path) -> None:
    item = pair(tmp_path, LABEL)
    ours = LoadLabeld("label", num_classes=3)(item)["label"]
    stock = LoadImaged("label", ensure_channel_first=True)(item)["label"]
    assert torch.equal(ours.as_tensor(), stock.as_tensor())
    assert torch.equal(ours.affine, stock.affine)
    assert (ours.dtype, ours.is_contiguous()) == (torch.float32, True)
    assert ours.meta["filename_or_obj"] == item["label"]


@pytest.mark.parametrize("codes", ["LAS", "PIR", "SRA"])
def test_a_turned_label_of_a_part_lies_where_monai_resamples_it(tmp_path: Path, codes: str) -> None:
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(codes))
    part = nib.Nifti1Image(LABEL, AFFINE).slicer[1:6, 2:, :5].as_reoriented(turn)
    item = pair(tmp_path, np.asarray(part.dataobj), part.affine)
    chain = [LoadImaged(["image", "label"], ensure_channel_first=True)]
    chain.append(ResampleToMatchd("label", key_dst="image", mode="nearest", padding_mode="zeros"))
    stock = Compose(chain)(item)["label"]
    ours = LoadLabeld("label", num_classes=3)(item)["label"]
    assert torch.equal(ours.as_tensor(), stock.as_tensor())
    assert ours.as_tensor().sum() == LABEL[1:6, 2:, :5].sum()


def test_image_and_label_turn_alike_afterwards(tmp_path: Path) -> None:
    half = nib.as_closest_canonical(nib.Nifti1Image(LABEL, AFFINE).slicer[:4])
    item = pair(tmp_path, np.asarray(half.dataobj), half.affine)
    chain = [LoadLabeld("label", 3), FastLoadImaged("image", ensure_channel_first=True)]
    sample = Compose([*chain, Orientationd(["image", "label"], "RAS", labels=None)])(item)
    assert sample["image"].shape == sample["label"].shape
    assert torch.equal(sample["image"].affine, sample["label"].affine)
    canonical = np.asarray(nib.as_closest_canonical(nib.Nifti1Image(LABEL, AFFINE)).dataobj)
    canonical[:4] = 0  # of the image's axes, the first points to the left
    np.testing.assert_array_equal(sample["label"][0], canonical)


@pytest.mark.parametrize("num_classes", [3, {"a": 3, "b": 2}])
def test_a_label_that_is_none_of_its_image_or_domain_is_refused(tmp_path: Path, num_classes: Any) -> None:
    load = LoadLabeld("label", num_classes)
    item = {**pair(tmp_path, LABEL), "domain": "a"}
    load(item)
    label = LABEL.copy()
    label[0, 0, 0] = 3
    with pytest.raises(ValueError, match=r"label .*label\.nii\.gz holds the values 0, 1, 2, 3, but .* declares 0 to 2"):
        load({**pair(tmp_path, label), "domain": "a"})
    with pytest.raises(ValueError, match=r"p_7: its label .*label\.nii\.gz lies up to 3 mm off its image: it is moved"):
        load({**pair(tmp_path, LABEL, nib.affines.from_matvec(np.eye(3), [3, 0, 0]) @ AFFINE), "domain": "a"})


def test_a_label_gets_the_assumed_voxel_size_of_its_image(tmp_path: Path) -> None:
    item = pair(tmp_path, LABEL)
    content = bytearray(gzip.decompress(Path(item["image"]).read_bytes()))
    content[80:92] = bytes(12)  # pixdim
    Path(item["image"]).write_bytes(gzip.compress(content))
    chain = [LoadLabeld("label", 3), FastLoadImaged("image", ensure_channel_first=True, need_spacing=False)]
    sample = Compose([*chain, EnsureSpacingd(["image", "label"], (2, 3, 4))])(item)
    assert sample["image"].pixdim.tolist() == sample["label"].pixdim.tolist() == [2, 3, 4]
    assert torch.equal(sample["image"].affine, sample["label"].affine)
    np.testing.assert_array_equal(sample["label"][0], LABEL)
