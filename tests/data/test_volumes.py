from __future__ import annotations

from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest

from med3d_components.data.volumes import open_scan

AFFINE = np.array([[0, -0.8, 0, 5], [0, 0, 2, 6], [1.5, 0, 0, -7], [0, 0, 0, 1]])


def test_a_box_is_read_as_it_lies_in_the_file(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, (7, 8, 9)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, AFFINE), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(volume[..., None], AFFINE), tmp_path / "b.nii")
    itk.imwrite(itk.imread(str(tmp_path / "a.nii.gz")), str(tmp_path / "c.nrrd"))
    for name in ("a.nii.gz", "b.nii", "c.nrrd"):
        scan = open_scan(tmp_path / name)
        assert scan.shape == (7, 8, 9)
        assert scan.affine == pytest.approx(AFFINE, abs=1e-5)
        assert scan.read().dtype == np.float32
        assert np.array_equal(scan.read(), volume)
        assert np.array_equal(scan.read((1, 2, 3), (4, 8, 4)), volume[1:4, 2:8, 3:4])


def test_a_file_that_changed_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    for size in (4, 5):
        nib.save(nib.Nifti1Image(np.zeros((size, size, size), np.float32), np.eye(4)), path)
        assert open_scan(path).shape == (size, size, size)


def test_a_given_spacing_keeps_directions_and_the_first_voxel(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), AFFINE), tmp_path / "a.nii")
    expected = AFFINE.copy()
    expected[:3, :3] = AFFINE[:3, :3] / (1.5, 0.8, 2) * (3, 4, 5)
    assert open_scan(tmp_path / "a.nii", [3, 4, 5]).affine == pytest.approx(expected)
    assert open_scan(tmp_path / "a.nii").affine == pytest.approx(AFFINE)


def test_a_point_is_inside_up_to_the_faces_of_the_outer_voxels(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.diag([1.0, 2, 3, 1])), tmp_path / "a.nii")
    scan = open_scan(tmp_path / "a.nii")
    for inside in ((-0.4, 0, 0), (3.4, 8.9, 16.4)):
        scan.check_inside(inside)
    for outside in ((-0.6, 0, 0), (0, 9.1, 0), (0, 0, 16.6)):
        with pytest.raises(ValueError, match=r"-0\.5 to 3\.5, -1\.0 to 9\.0, -1\.5 to 16\.5 mm \(RAS\)"):
            scan.check_inside(outside)


def test_what_is_no_scan_is_named(tmp_path: Path) -> None:
    for name in ("page.nrrd", "page.mha", "page.nii.gz"):
        (tmp_path / name).write_text("<html>")
        with pytest.raises(ValueError, match=rf"{name} is not a readable"):
            open_scan(tmp_path / name)
    itk.imwrite(itk.image_from_array(np.zeros((2, 4, 5, 6), np.float32)), str(tmp_path / "4d.mha"))
    with pytest.raises(ValueError, match=r"4d\.mha has 4 dimensions and 1 channels"):
        open_scan(tmp_path / "4d.mha")
    colour = itk.image_from_array(np.zeros((4, 5, 6, 3), np.uint8), is_vector=True)
    itk.imwrite(colour, str(tmp_path / "colour.mha"))
    with pytest.raises(ValueError, match=r"colour\.mha has 3 dimensions and 3 channels"):
        open_scan(tmp_path / "colour.mha")
