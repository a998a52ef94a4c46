from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from med3d_components.data.headers import Header, read_header


def save(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=shape).astype(np.float32), affine), path)
    return path


def test_size_and_spacing_are_given_along_the_axes_of_ras(tmp_path: Path) -> None:
    # Array axes run superior, left, anterior, at 3, 1 and 2 mm.
    affine = np.array([[0, -1, 0, 0], [0, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    header = read_header(save(tmp_path / "a.nii.gz", (5, 6, 7), affine))
    assert header == Header(size=(6, 7, 5), spacing=(1.0, 2.0, 3.0), channels=1)


def test_the_fourth_axis_counts_channels(tmp_path: Path) -> None:
    assert read_header(save(tmp_path / "a.nii", (5, 6, 7, 4), np.eye(4))).channels == 4


def test_a_truncated_gzip_file_is_recognised_by_its_header_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", (30, 30, 30), np.eye(4))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"a\.nii\.gz is cut off"):
        read_header(path)


def test_a_gzip_file_of_several_members_is_read_in_full_before_it_is_judged(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", (20, 20, 20), np.eye(4))
    content = path.read_bytes()
    joined = tmp_path / "b.nii.gz"
    joined.write_bytes(gzip.compress(content[:9000]) + gzip.compress(content[9000:]))
    assert read_header(joined).size == (20, 20, 20)
    joined.write_bytes(gzip.compress(content[:9000]) + gzip.compress(content[9000:-500]))
    with pytest.raises(ValueError, match="cut off"):
        read_header(joined)


@pytest.mark.parametrize("spacing", [0.0, np.nan])
def test_a_spacing_that_is_none_is_an_error(tmp_path: Path, spacing: float) -> None:
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), None)
    image.header["pixdim"][1] = spacing
    image.header.set_sform(np.diag([spacing, 1, 1, 1]), code=1)
    image.header.set_qform(None, code=0)
    path = tmp_path / "a.nii"
    header = image.header.copy()
    path.write_bytes(header.binaryblock + b"\0" * 4 + bytes(4 * 4 * 4 * 4))
    with pytest.raises(ValueError, match="no valid spacing"):
        read_header(path)


@pytest.mark.parametrize("code", [0, 1])
def test_a_voxel_size_of_zero_that_readers_take_for_1_mm_is_an_error_unless_it_may_be_missing(
    tmp_path: Path, code: int
) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.diag([0.7, 0.7, 2, 1]))
    image.header.set_sform(np.diag([0.7, 0.7, 2, 1]), code=code)
    image.header.set_qform(None, code=0)
    image.header["pixdim"][1:4] = 0
    path = tmp_path / "a.nii"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + bytes(4 * 5 * 6))
    with pytest.raises(ValueError, match=r"no valid spacing \(0 x 0 x 0 mm\)"):
        read_header(path)
    header = read_header(path, need_spacing=False)
    assert header.size == (4, 5, 6)
    assert np.isnan(header.spacing).all()


def test_missing_foreign_and_flat_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.nii does not exist"):
        read_header(tmp_path / "none.nii")
    foreign = tmp_path / "page.nii.gz"
    foreign.write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.nii\.gz is not a readable NIfTI file"):
        read_header(foreign)
    with pytest.raises(ValueError, match=r"has shape \(5, 6\)"):
        read_header(save(tmp_path / "flat.nii", (5, 6), np.eye(4)))
