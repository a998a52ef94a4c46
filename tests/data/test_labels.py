from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import apply_affine, from_matvec
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from med3d_components.data.labels import check_label, count_voxels, fit_label, read_label
from med3d_components.data.volumes import open_scan

SHAPE = (9, 7, 5)
GRID = from_matvec(Rotation.from_euler("xyz", [12, -8, 20], degrees=True).as_matrix() * [0.7, 1.1, 2.5], [-31, 12, 80])


def blobs(shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)


def save(path: Path, array: NDArray[Any], affine: NDArray[Any] = GRID) -> Path:
    nib.save(nib.Nifti1Image(array, affine, dtype=array.dtype), path)
    return path


def by_simpleitk(label: Path, image: Path) -> NDArray[Any]:
    """Return a label on its image's grid as SimpleITK puts it there, by nearest neighbour."""
    moved = sitk.Resample(sitk.ReadImage(str(label)), sitk.ReadImage(str(image)), interpolator=sitk.sitkNearestNeighbor)
    return sitk.GetArrayFromImage(moved).T


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
@pytest.mark.parametrize("flips", [*product((1, -1), repeat=3)], ids=str)
def test_a_label_in_any_orientation_is_turned_as_simpleitk_resamples_it(
    tmp_path: Path, order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    image = save(tmp_path / "image.nii", np.zeros(SHAPE, np.float32))
    turn = np.stack([order, flips], axis=1)
    other = nib.Nifti1Image(blobs(), GRID).as_reoriented(turn)
    nib.save(other, tmp_path / "label.nii")
    found = fit_label(np.asarray(other.dataobj), other.affine, SHAPE, GRID, "a label")
    np.testing.assert_array_equal(found, blobs())
    np.testing.assert_array_equal(found, by_simpleitk(tmp_path / "label.nii", image))


@pytest.mark.parametrize(("start", "stop"), [((2, 1, 0), (9, 5, 3)), ((0, 0, 4), (9, 7, 5)), ((3, 3, 2), (4, 4, 3))])
def test_a_label_of_a_part_is_padded_as_simpleitk_resamples_it(
    tmp_path: Path, start: tuple[int, ...], stop: tuple[int, ...]
) -> None:
    image = save(tmp_path / "image.nii", np.zeros(SHAPE, np.float32))
    box = tuple(slice(*ends) for ends in zip(start, stop, strict=True))
    part = nib.as_closest_canonical(nib.Nifti1Image(blobs(), GRID).slicer[box])
    part = part.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(part, tmp_path / "label.nii")
    found = fit_label(np.asarray(part.dataobj), part.affine, SHAPE, GRID, "a label")
    np.testing.assert_array_equal(found, by_simpleitk(tmp_path / "label.nii", image))
    assert found.dtype == np.uint8
    assert found.sum() == blobs()[box].sum()


def moved(x: float, y: float = 0, z: float = 0) -> NDArray[Any]:
    """Return the grid moved by so many of its voxels."""
    return GRID @ from_matvec(np.eye(3), [x, y, z])


def turned(degrees: float) -> NDArray[Any]:
    """Return the grid turned about its centre."""
    centre = apply_affine(GRID, (np.array(SHAPE) - 1) / 2)
    rotation = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    return from_matvec(rotation, centre - rotation @ centre) @ GRID


WRONG = {
    "moved by half a voxel": (moved(0.5), "it is moved"),
    "moved by whole voxels": (moved(0, 3, 0), "it is moved"),
    "25 mm off": (from_matvec(np.eye(3), [0, 25, 0]) @ GRID, "it is moved"),
    "turned": (turned(10), "it is turned by 10 degrees"),
    "turned a little": (turned(2), "it is turned by 2 degrees"),
    "of another spacing": (GRID @ np.diag([1, 1, 1.1, 1]), r"its voxels have 0.7 x 1.1 x 2.75 mm, those of the image"),
    "at the identity": (np.eye(4), r"its voxels have 1 x 1 x 1 mm, those of the image 0.7 x 1.1 x 2.5 mm"),
}


@pytest.mark.parametrize(("affine", "reason"), WRONG.values(), ids=WRONG)
def test_a_label_that_lies_elsewhere_is_refused_with_the_distance_of_its_corners(
    tmp_path: Path, affine: NDArray[Any], reason: str
) -> None:
    image, label = save(tmp_path / "image.nii", np.zeros(SHAPE, np.float32)), save(tmp_path / "l.nii", blobs(), affine)
    corners = np.array(list(product(*[(-0.5, length - 0.5) for length in SHAPE])))
    # Of what lies in no other order of axes, the corners that belong together are those of equal indices.
    apart = np.linalg.norm(apply_affine(affine, corners) - apply_affine(GRID, corners), axis=1).max()
    with pytest.raises(
        ValueError, match=rf"case_7: its label .*l\.nii lies up to {apart:.3g} mm off its image: {reason}"
    ):
        check_label(open_scan(image), open_scan(label), "case_7")
    with pytest.raises(ValueError, match="case_7: its label"):
        fit_label(blobs(), affine, SHAPE, GRID, "case_7: its label")


@pytest.mark.parametrize("affine", [moved(0.05, -0.05, 0.09), turned(0.2), GRID + 1e-4])
def test_rounding_in_a_header_is_no_distance(affine: NDArray[Any]) -> None:
    np.testing.assert_array_equal(fit_label(blobs(), affine, SHAPE, GRID, "a label"), blobs())


@pytest.mark.parametrize("shape", [(10, 7, 5), (9, 7, 6), (20, 20, 20)])
def test_a_label_that_reaches_outside_its_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="voxels reach outside, or are moved"):
        fit_label(np.zeros(shape, np.uint8), GRID, SHAPE, GRID, "a label")


def test_without_a_voxel_size_shape_and_directions_are_compared(tmp_path: Path) -> None:
    def without(path: Path, array: NDArray[Any], flip: int = 1) -> Path:
        volume = nib.Nifti1Image(array, np.diag([flip, 1, 1, 1]))
        content = bytearray(volume.to_bytes())
        content[80:92] = bytes(12)  # pixdim
        path.write_bytes(content)
        return path

    image = without(tmp_path / "image.nii", np.zeros(SHAPE, np.float32))
    for name, label in {
        "none": without(tmp_path / "none.nii", blobs()),
        "some": save(tmp_path / "some.nii", blobs(), np.diag([0.7, 0.8, 2.5, 1])),
    }.items():
        check_label(open_scan(image, need_spacing=False), open_scan(label, need_spacing=False), name)
    for name, label in {
        "flipped": save(tmp_path / "flipped.nii", blobs(), np.diag([-0.7, 0.8, 2.5, 1])),
        "smaller": save(tmp_path / "smaller.nii", blobs((9, 7, 4)), np.diag([0.7, 0.8, 2.5, 1])),
    }.items():
        with pytest.raises(ValueError, match=rf"{name}: .*image\.nii gives no voxel size, and image and label differ"):
            check_label(open_scan(image, need_spacing=False), open_scan(label, need_spacing=False), name)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.float64])
def test_large_values_stay_apart(tmp_path: Path, dtype: Any) -> None:
    array = np.zeros((4, 4, 4), dtype)
    array[0], array[1] = 16777216, 16777217
    assert count_voxels(save(tmp_path / "a.nii", array)) == {0: 32, 16777216: 16, 16777217: 16}


def test_values_scaled_by_a_header_are_the_whole_numbers_that_they_stand_for(tmp_path: Path) -> None:
    raw = nib.Nifti1Image(np.where(blobs() > 1, 41, 0).astype(np.uint8), GRID)
    content = bytearray(raw.to_bytes())
    content[112:116] = np.float32(1 / 41).tobytes()  # scl_slope
    (tmp_path / "a.nii").write_bytes(content)
    assert nib.load(tmp_path / "a.nii").get_fdata().max() != 1
    assert set(count_voxels(tmp_path / "a.nii")) == {0, 1}
    assert count_voxels(tmp_path / "a.nii")[1] == int((blobs() > 1).sum())


@pytest.mark.parametrize("value", [0.5, 1.01, np.nan, np.inf, 1e30])
def test_values_that_are_no_whole_numbers_are_refused(tmp_path: Path, value: float) -> None:
    array = np.zeros((4, 4, 4), np.float32)
    array[1, 1, 1] = value
    with pytest.raises(ValueError, match=r"a\.nii holds the values .+, but those of a label are whole"):
        count_voxels(save(tmp_path / "a.nii", array))


def test_counts_are_those_of_numpy_for_any_integers(tmp_path: Path) -> None:
    for dtype, low, high in ((np.int16, -5, 5), (np.uint16, 0, 65535), (np.int32, -(2**30), 2**30), (np.uint8, 0, 3)):
        array = np.random.default_rng(0).integers(low, high, (6, 5, 4)).astype(dtype)
        values, numbers = np.unique(array, return_counts=True)
        assert count_voxels(save(tmp_path / "a.nii", array)) == dict(
            zip(values.tolist(), numbers.tolist(), strict=True)
        )


def one_hot(first: int) -> NDArray[np.uint8]:
    return np.stack([blobs() == value for value in range(first, 4)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("first", [0, 1], ids=["with background", "without"])
@pytest.mark.parametrize("num_classes", [4, None])
def test_a_one_hot_label_is_read_as_the_classes_it_was_made_of(
    tmp_path: Path, first: int, num_classes: int | None
) -> None:
    path = save(tmp_path / "a.nii.gz", one_hot(first))
    np.testing.assert_array_equal(read_label(open_scan(path), num_classes), blobs())


def test_a_trailing_axis_of_one_is_no_channel(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_label(open_scan(save(tmp_path / "a.nii", blobs()[..., None])), 4), blobs())


@pytest.mark.parametrize(
    ("array", "num_classes", "message"),
    [
        (one_hot(1), 3, "has 3 channels, one for the background, but voxels that are in none"),
        (one_hot(1), 6, "has 3 channels; a label has one, or one for each of its 6 classes"),
        (np.maximum(one_hot(0), 1), 4, "has 4 channels that overlap or hold other values than 0 and 1"),
        (one_hot(0) * 2, 4, "has 4 channels that overlap or hold other values than 0 and 1"),
    ],
)
def test_channels_that_are_no_classes_are_refused(
    tmp_path: Path, array: NDArray[Any], num_classes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"a\.nii {message}"):
        read_label(open_scan(save(tmp_path / "a.nii", array)), num_classes)
