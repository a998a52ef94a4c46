from __future__ import annotations

from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from med3d_components.data.domains import DomainFacts
from med3d_components.prepare.importing import CaseFiles, find_values, import_cases, import_domain
from tests.data.dicom_files import write_series

FACTS = DomainFacts("CT", "lung", ("background", "lung"), "a test", "none")
AFFINE = np.array([[-0.7, 0, 0, 11], [0, -0.8, 0, -7], [0, 0, 2.5, 4], [0, 0, 0, 1]])
VALUES = {0: 0, 1: 1}


def image(shape: tuple[int, ...] = (6, 8, 5)) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-1000, 900, shape).astype(np.int16)


def label(value: float = 1, dtype: Any = np.uint8) -> NDArray[Any]:
    array = np.zeros((6, 8, 5), dtype)
    array[2:4, 2:6, 1:3] = value
    return array


def save(path: Path, array: NDArray[Any]) -> Path:
    """Write an array in the format of the path's ending, all with the same geometry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".nii" in path.name:
        nib.save(nib.Nifti1Image(array, AFFINE), path)
        return path
    volume = itk.image_from_array(np.ascontiguousarray(array.T))
    volume.SetSpacing([0.7, 0.8, 2.5])
    volume.SetOrigin([-11.0, 7.0, 4.0])  # LPS, as ITK has it
    itk.imwrite(volume, str(path))
    return path


def run(folder: Path, image: Path, label: Path, facts: DomainFacts = FACTS) -> bool:
    return import_domain(folder / "Lung", facts, {"a": (image, label)}, VALUES)


def written(folder: Path, part: str) -> nib.Nifti1Image:
    return nib.load(folder / "Lung" / part / "a.nii.gz")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_voxels_and_geometry_are_the_same_from_every_format(tmp_path: Path, ending: str) -> None:
    files = [save(tmp_path / part / f"a{ending}", array) for part, array in (("i", image()), ("l", label()))]
    assert run(tmp_path, *files)
    for part, array in (("imagesTr", image()), ("labelsTr", label())):
        volume = written(tmp_path, part)
        np.testing.assert_array_equal(volume.dataobj, array)
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
        assert volume.get_data_dtype() == array.dtype


def test_a_dicom_series_keeps_its_hu_and_its_place(tmp_path: Path) -> None:
    write_series(tmp_path / "a", image(), AFFINE, shuffle=True)
    assert run(tmp_path, tmp_path / "a", save(tmp_path / "l" / "a.nii", label()))
    volume = written(tmp_path, "imagesTr")
    np.testing.assert_array_equal(volume.dataobj, image())
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.get_data_dtype() == np.int16


def test_an_incomplete_dicom_series_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "a", image(), AFFINE, leave_out=[2])
    with pytest.raises(ValueError, match="misses slices"):
        run(tmp_path, tmp_path / "a", save(tmp_path / "l" / "a.nii", label()))


def test_an_image_of_several_channels_is_refused(tmp_path: Path) -> None:
    channels = save(tmp_path / "i" / "a.nii", image((6, 8, 5, 2)))
    with pytest.raises(ValueError, match=r"a.nii has shape \(6, 8, 5, 2\), but one 3-D image .*; split the channels"):
        run(tmp_path, channels, save(tmp_path / "l" / "a.nii", label()))


def test_several_labels_of_a_case_become_one(tmp_path: Path) -> None:
    names = ("left.nii", "right.nii")
    left, right = label(255), np.roll(label(255), 1, axis=0)
    files = [save(tmp_path / name, array) for name, array in zip(names, (left, right), strict=True)]
    case = CaseFiles(save(tmp_path / "i.nii", image()), ((files[0], {0: 0, 255: 1}), (files[1], {0: 0, 255: 2})))
    import_cases(tmp_path / "Lung", DomainFacts("CT", "lungs", ("background", "left", "right"), "", ""), {"a": case})
    expected = np.where(right > 0, 2, left > 0)
    np.testing.assert_array_equal(written(tmp_path, "labelsTr").dataobj, expected)


def test_the_same_files_are_imported_once_and_other_work_is_refused(tmp_path: Path) -> None:
    files = save(tmp_path / "i.nii", image()), save(tmp_path / "l.nii", label())
    assert run(tmp_path, *files)
    assert not run(tmp_path, *files)
    renamed = DomainFacts("CT", "lung", ("background", "lungs"), "a test", "none")
    with pytest.raises(FileExistsError, match="already holds other data"):
        run(tmp_path, *files, facts=renamed)
    with pytest.raises(FileExistsError, match="already holds other data"):
        run(tmp_path, files[0], save(tmp_path / "other.nii", label()))


def test_the_values_of_all_labels_are_found(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{value}.nii", label(value, np.float32)) for value in (7, 3)]
    assert find_values(files) == [0, 3, 7]


@pytest.mark.parametrize("array", [label(0.5, np.float32), label(-1, np.int16), image((20, 20, 20))])
def test_an_image_given_as_label_is_refused(tmp_path: Path, array: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"l.nii has \d+ values such as .*; a label has few, whole and from 0 on"):
        find_values([save(tmp_path / "l.nii", array)])


@pytest.mark.parametrize("dtype", [">i2", ">f4", "<i2"])
def test_big_endian_files_and_a_last_axis_of_one_are_imported(tmp_path: Path, dtype: str) -> None:
    files = [tmp_path / f"{part}.nii.gz" for part in ("i", "l")]
    for path, array in zip(files, (image(), label()), strict=True):
        header = nib.Nifti1Header(endianness=dtype[0])
        nib.save(nib.Nifti1Image(array.astype(dtype)[..., None], AFFINE, header), path)
    assert run(tmp_path, *files)
    np.testing.assert_array_equal(written(tmp_path, "imagesTr").dataobj, image())
    np.testing.assert_array_equal(written(tmp_path, "labelsTr").dataobj, label())
    np.testing.assert_allclose(written(tmp_path, "labelsTr").affine, AFFINE, atol=1e-5)


def test_labels_scaled_to_1_by_the_header_are_classes_and_almost_1_is_refused(tmp_path: Path) -> None:
    stored = nib.Nifti1Image(label(255), AFFINE)
    stored.header.set_slope_inter(1 / 255, 0)
    path = tmp_path / "l.nii.gz"
    raw = stored.header.copy()
    raw["scl_slope"], raw["vox_offset"] = 1 / 255, 352
    with nib.openers.ImageOpener(path, "wb") as file:
        file.write(raw.binaryblock + bytes(4) + label(255).tobytes(order="F"))
    assert run(tmp_path, save(tmp_path / "i.nii.gz", image()), path)
    np.testing.assert_array_equal(written(tmp_path, "labelsTr").dataobj, label())
    almost = save(tmp_path / "almost.nii.gz", label(0.9999, np.float32))
    with pytest.raises(ValueError, match=r"almost\.nii\.gz has the values \[0\.999"):
        run(tmp_path / "again", tmp_path / "i.nii.gz", almost)


def test_a_case_whose_geometry_is_none_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "i.nii.gz"
    nib.save(nib.Nifti1Image(image(), np.diag([0.7, 0.7, 250, 1])), bad)
    with pytest.raises(ValueError, match=r"i\.nii\.gz has a voxel size of 0\.7 x 0\.7 x 250 mm, but 0\.001 to 100 mm"):
        run(tmp_path, bad, save(tmp_path / "l.nii.gz", label()))
