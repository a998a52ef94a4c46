from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ClipIntensityPercentilesd, Compose, Invertd, LoadImaged, Orientationd

from med3d_components.transforms import FastClipIntensityPercentilesd, FastLoadImaged
from med3d_components.transforms.reading import large_percentiles
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
    assert ours.meta.keys() == stock.meta.keys()
    assert all(np.array_equal(ours.meta.get(key), stock.meta.get(key)) for key in ("spatial_shape", "original_affine"))


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
    check_equal(write(tmp_path / "plane.nii.gz", values[:, :, 0]), ensure_channel_first=True)
    check_equal(write(tmp_path / "integers.nii.gz", values), dtype=np.int16)
    check_equal(write(tmp_path / "as_stored.nii.gz", values), dtype=None)


def test_a_file_packed_in_several_parts_is_read_whole(tmp_path: Path) -> None:
    content = Path(write(tmp_path / "ct.nii", np.arange(4096, dtype=np.int16).reshape(16, 16, 16))).read_bytes()
    path = tmp_path / "parts.nii.gz"
    path.write_bytes(gzip.compress(content[:3000]) + gzip.compress(content[3000:]))
    check_equal(str(path))


def test_a_damaged_file_is_monais_error(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "ct.nii.gz", np.random.default_rng(0).integers(0, 99, (16, 16, 16), dtype=np.int16)))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(EOFError, match="Compressed file ended"):
        FastLoadImaged("image")({"image": str(path)})


def test_a_dicom_series_is_the_one_that_monai_loads_and_other_formats_are_monais(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-1024, 2000, (20, 18, 5), dtype=np.int16)
    write_series(tmp_path / "series", values, np.diag([-0.8, -0.8, 2.5, 1.0]))
    check_equal(str(tmp_path / "series"), ensure_channel_first=True)
    np.save(tmp_path / "volume.npy", values)
    check_equal(str(tmp_path / "volume.npy"))
    path = write(tmp_path / "ct.nii.gz", values)
    check_equal(path, reader="ITKReader")


def test_what_follows_loading_can_be_inverted(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii.gz", np.arange(8 * 7 * 6, dtype=np.int16).reshape(8, 7, 6))
    chain = Compose([FastLoadImaged("image", ensure_channel_first=True), Orientationd("image", "RAS", labels=None)])
    data = chain({"image": path})
    inverse = Invertd("image", transform=chain, orig_keys="image", nearest_interp=False, to_tensor=True)
    assert torch.equal(inverse(data)["image"], chain.transforms[0]({"image": path})["image"])


@pytest.mark.parametrize("size", [(1, 60, 50, 40), (1, 128, 100, 90)], ids=["small", "large"])
@pytest.mark.parametrize("ties", [True, False])
def test_clipping_is_that_of_monai(size: tuple[int, ...], ties: bool) -> None:
    noise = 300 * torch.randn(size, generator=torch.Generator().manual_seed(0))
    image = MetaTensor(noise.round().clamp(-400) if ties else noise, affine=torch.as_tensor(AFFINE))
    before = image.clone()
    ours, stock = (
        clip("image", 0.5, 99.5)({"image": image})["image"]
        for clip in (FastClipIntensityPercentilesd, ClipIntensityPercentilesd)
    )
    assert ours.dtype == stock.dtype
    assert torch.equal(ours.affine, image.affine)
    assert torch.equal(image, before)
    if ties or noise.numel() < 1_000_000:
        assert torch.equal(ours.as_tensor(), stock.as_tensor())
    else:  # numpy's rank of a million is a single-precision number
        assert torch.allclose(ours.as_tensor(), stock.as_tensor(), atol=0.05)


def test_integers_are_clipped_as_float32() -> None:
    clipped = FastClipIntensityPercentilesd("image", 0, 50)({"image": torch.arange(11)})["image"]
    assert clipped.dtype == torch.float32
    assert clipped.max() == 5


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 5000, 200_001])
@pytest.mark.parametrize("order", ["random", "sorted", "reversed", "one value", "periodic"])
def test_percentiles_are_exact_whatever_the_order(count: int, order: str) -> None:
    values = np.random.default_rng(count).normal(0, 1, count).astype(np.float32)
    values = {
        "random": values,
        "sorted": np.sort(values),
        "reversed": np.sort(values)[::-1],
        "one value": np.full_like(values, 7),
        "periodic": np.where(np.arange(count) % 64 == 0, values + 50, values),  # a sample of nothing but outliers
    }[order]
    percents = (0, 0.5, 31.7, 50, 99.5, 100)
    expected = np.percentile(values.astype(np.float64), percents)
    np.testing.assert_allclose(large_percentiles(values, percents), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("limits", [(-1, 50), (60, 50), (0, 101), (float("nan"), 5)])
def test_percentiles_out_of_order_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be in order and from 0 to 100"):
        FastClipIntensityPercentilesd("image", *limits)
