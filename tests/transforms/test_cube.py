from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import LoadImage, SpatialResample
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from med3d_components.data.volumes import open_scan
from med3d_components.transforms import LoadImageCubed
from tests.data.dicom_files import write_series

CENTER = np.array([12.0, -31.0, 48.0])
SIGMA = 5.0


def blob(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a round blob at CENTER, as a scan with this affine shows it."""
    world = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return 1000 * np.exp(-((world - CENTER) ** 2).sum(axis=-1) / (2 * SIGMA**2)) - 500


def oblique(spacing: tuple[float, ...], shape: tuple[int, ...], axes: list[int], turn: tuple[float, ...]) -> np.ndarray:
    """Return the affine of a turned scan, its axes permuted, with CENTER off its middle."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()[:, axes] * spacing
    affine[:3, 3] = CENTER - affine[:3, :3] @ (np.array(shape) * (0.5, 0.4, 0.55))
    return affine


def write_nifti(path: Path, affine: np.ndarray, shape: tuple[int, ...]) -> Path:
    nib.save(nib.Nifti1Image(blob(affine, shape).astype(np.float32), affine), path)
    return path


def check_blob(cube: torch.Tensor, tolerance: float = 30) -> None:
    """Compare a cube with the blob as its affine would show it."""
    assert isinstance(cube, MetaTensor)
    expected = blob(cube.affine.numpy(), cube.shape[1:])
    assert np.abs(cube[0].numpy() - expected).max() < tolerance


def load(path: Path, center: Any = CENTER, size: Any = 33, spacing: Any = 1.0) -> MetaTensor:
    item = {"image": str(path), "center_mm": list(center)}
    return LoadImageCubed("image", size, spacing)(item)["image"]


@pytest.mark.parametrize(
    ("axes", "turn"), [([0, 1, 2], (0, 0, 0)), ([2, 0, 1], (170, 5, 185)), ([1, 0, 2], (25, -30, 40))]
)
@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii", "scan.nrrd", "scan.mha", "scan.mhd"])
def test_the_nodule_lies_in_the_middle_at_its_true_size(
    tmp_path: Path, axes: list[int], turn: tuple[float, ...], name: str
) -> None:
    shape = (60, 70, 50)
    affine = oblique((0.9, 0.7, 1.5), shape, axes, turn)
    path = tmp_path / name
    if ".nii" in name:
        write_nifti(path, affine, shape)
    else:
        write_itk(path, affine, shape)
    cube = load(path)
    assert cube.shape == (1, 33, 33, 33)
    assert cube.dtype == torch.float32
    assert np.argwhere(np.asarray(cube) == float(cube.max())).tolist() == [[0, 16, 16, 16]]
    assert cube.affine.numpy() == pytest.approx(nib.affines.from_matvec(np.eye(3), CENTER - 16))
    check_blob(cube)


def write_itk(path: Path, affine: np.ndarray, shape: tuple[int, ...], dtype: Any = np.float32) -> None:
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = itk.image_from_array(np.ascontiguousarray(blob(affine, shape).astype(dtype).T))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3] / spacing)))
    itk.imwrite(image, str(path))


@pytest.mark.parametrize("turn", [(0, 0, 0), (180, 0, 0), (10, 20, 30)])
def test_a_dicom_series_gives_the_nodule_in_its_hounsfield_units(tmp_path: Path, turn: tuple[float, ...]) -> None:
    shape = (64, 60, 40)
    affine = oblique((0.8, 0.9, 1.5), shape, [0, 1, 2], turn)
    write_series(tmp_path / "ct", blob(affine, shape), affine, shuffle=True)
    cube = load(tmp_path / "ct", size=(25, 31, 27))
    assert cube.shape == (1, 25, 31, 27)
    check_blob(cube)
    assert float(cube[0, 12, 15, 13]) == pytest.approx(500, abs=30)


@pytest.mark.parametrize("center", [CENTER, CENTER - (-9, 8, -14), CENTER - (20, 12, 20)])
def test_the_part_gives_what_the_whole_scan_would(tmp_path: Path, center: np.ndarray) -> None:
    shape = (50, 60, 40)
    affine = oblique((0.9, 0.7, 1.5), shape, [1, 2, 0], (20, -35, 50))
    path = write_nifti(tmp_path / "scan.nii.gz", affine, shape)
    cube = load(path, center, size=(24, 20, 31), spacing=(1.1, 1.0, 0.8))
    whole = LoadImage(ensure_channel_first=True)(path)
    resample = SpatialResample(mode="bilinear", padding_mode="border", align_corners=True, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = resample(whole, dst_affine=cube.affine, spatial_size=cube.shape[1:])
    assert float((cube - expected).abs().max()) < 0.05


def test_a_spacing_per_axis_and_an_even_size_keep_the_centre(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "scan.nii", oblique((1, 1, 1), (60,) * 3, [0, 1, 2], (0, 0, 0)), (60, 60, 60))
    cube = load(path, size=(24, 16, 12), spacing=(1.0, 1.5, 2.0))
    assert apply_affine(cube.affine.numpy(), (11.5, 7.5, 5.5)) == pytest.approx(CENTER)
    check_blob(cube)
    assert torch.allclose(cube, cube.flip((1, 2, 3)), atol=20)


def test_beyond_the_border_of_the_scan_its_last_voxels_go_on(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "scan.nii")
    cube = load(tmp_path / "scan.nii", (0, 10, 19), size=9)[0].numpy()
    expected = np.pad(volume, 4, mode="edge")[0:9, 10:19, 19:28]
    assert cube == pytest.approx(expected, abs=1e-5)
    tiny = load(tmp_path / "scan.nii", (-0.4, -0.4, 19.4), size=2, spacing=0.01)
    assert tiny.numpy() == pytest.approx(volume[0, 0, 19])


def test_without_a_centre_the_whole_volume_is_turned_and_resized(tmp_path: Path) -> None:
    shape = (50, 60, 45)
    affine = oblique((0.9, 0.7, 1.5), shape, [2, 0, 1], (170, 5, 185))
    path = write_nifti(tmp_path / "scan.nii.gz", affine, shape)
    cube = LoadImageCubed("image", (24, 40, 30), 1.0)({"image": path})["image"]
    check_blob(cube, 60)
    assert nib.aff2axcodes(cube.affine.numpy()) == ("R", "A", "S")
    extents = np.array(cube.shape[1:]) * np.linalg.norm(cube.affine.numpy()[:3, :3], axis=0)
    assert sorted(extents) == pytest.approx(sorted(np.multiply(shape, (0.9, 0.7, 1.5))))
    middle = [apply_affine(a, (np.array(s) - 1) / 2) for a, s in ((affine, shape), (cube.affine.numpy(), (24, 40, 30)))]
    assert middle[0] == pytest.approx(middle[1])


def test_a_cube_of_the_right_size_stays_as_it_is(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((11, 12, 13), dtype=np.float32)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "cube.nii.gz")
    cube = LoadImageCubed("image", (11, 12, 13), 1.0)({"image": str(tmp_path / "cube.nii.gz")})["image"]
    assert np.array_equal(cube[0].numpy(), volume)
    assert np.array_equal(cube.affine.numpy(), np.eye(4))


def test_a_spacing_of_the_sample_replaces_that_of_the_header(tmp_path: Path) -> None:
    affine = nib.affines.from_matvec(np.diag([-0.8, 0.8, 2]), CENTER - (-20, 20, 30))
    volume = blob(affine, (50, 50, 30)).astype(np.float32)
    wrong = affine @ np.diag([1 / 0.8, 1 / 0.8, 0.5, 1])
    nib.save(nib.Nifti1Image(volume, wrong), tmp_path / "scan.nii")
    sample = {"image": str(tmp_path / "scan.nii"), "spacing": [0.8, 0.8, 2.0]}
    check_blob(LoadImageCubed("image", 25, 1.0)({**sample, "center_mm": CENTER.tolist()})["image"])
    whole = LoadImageCubed("image", (50, 50, 30), 1.0)(sample)["image"]
    assert np.linalg.norm(whole.affine.numpy()[:3, :3], axis=0) == pytest.approx([0.8, 0.8, 2])


def test_of_a_scan_no_more_is_read_than_the_cube_needs(tmp_path: Path) -> None:
    shape = (64, 64, 120)
    affine = nib.affines.from_matvec(np.eye(3), CENTER - (30, 30, 25))
    write_nifti(tmp_path / "a.nii", affine, shape)
    write_itk(tmp_path / "b.mhd", affine, shape, np.int16)
    write_series(tmp_path / "c", blob(affine, shape), affine)
    for name in ("a.nii", "c"):
        open_scan(tmp_path / name)
    for name in ("a.nii", "b.raw"):  # all but the slices from 0 to 49
        content, modified = (tmp_path / name).read_bytes(), (tmp_path / name).stat().st_mtime_ns
        (tmp_path / name).write_bytes(content[: len(content) // 120 * 50])
        os.utime(tmp_path / name, ns=(modified, modified))
    for number, file in enumerate(sorted((tmp_path / "c").iterdir())):
        if not 10 <= number < 41:
            modified = file.stat().st_mtime_ns
            file.write_bytes(b"")
            os.utime(file, ns=(modified, modified))
    for name in ("a.nii", "b.mhd", "c"):
        check_blob(load(tmp_path / name, size=25), 30)


def test_samples_with_and_without_optional_entries_make_one_batch(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", oblique((1, 1, 1), (40,) * 3, [0, 1, 2], (0, 0, 0)), (40, 40, 40))
    image = str(tmp_path / "a.nii")
    items = [
        {"image": image, "center_mm": CENTER.tolist(), "spacing": [1.0] * 3, "mask": image, "label": 1, "case": "a"},
        {"image": image, "label": 0, "case": "b"},
    ]
    dataset = Dataset(items, LoadImageCubed("image", 16, 1.0))
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert batch.keys() == {"image", "label", "case"}
    assert batch["image"].shape == (2, 1, 16, 16, 16)
    assert batch["case"] == ["a", "b"]
    assert dataset[0]["image"].meta["filename_or_obj"] == image
    assert items[0].keys() >= {"center_mm", "spacing", "mask"}


def test_a_mask_is_cut_like_its_image_if_it_is_among_the_keys(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", oblique((1, 1, 1), (40,) * 3, [0, 1, 2], (0, 0, 0)), (40, 40, 40))
    load_both = LoadImageCubed(["image", "mask"], 16, 1.0, allow_missing_keys=True)
    sample = load_both({"image": path, "mask": path, "center_mm": CENTER.tolist()})
    assert torch.equal(sample["mask"], sample["image"])
    assert load_both({"image": path}).keys() == {"image"}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", np.eye(4), (10, 20, 30))
    with pytest.raises(
        ValueError, match=r"a\.nii: center_mm \[-9\.0, 5\.0, 5\.0\] lies outside the scan, -0\.5 to 9\.5,"
    ):
        load(path, (-9, 5, 5))
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8, 3), np.float32), np.eye(4)), tmp_path / "b.nii")
    with pytest.raises(ValueError, match=r"b\.nii is 4-D, of shape \(8, 8, 8, 3\)"):
        load(tmp_path / "b.nii", (4, 4, 4))
    with pytest.raises(FileNotFoundError, match=r"none\.nii does not exist"):
        load(tmp_path / "none.nii")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (48, 48)}, r"size is \(48, 48\), but must be one or three positive integers"),
        ({"size": 0}, "size is 0"),
        ({"size": 4.5}, "size is 4.5"),
        ({"spacing": (1, -1, 1)}, r"spacing is \(1, -1, 1\), but must be one or three positive lengths in mm"),
        ({"spacing": float("inf")}, "spacing is inf"),
        ({"spacing": "1"}, "spacing is '1'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoadImageCubed("image", **{"size": 48, "spacing": 1.0, **arguments})
