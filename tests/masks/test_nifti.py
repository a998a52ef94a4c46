"""A mask lies on its scan for nibabel, for ITK and by the bytes of its header."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from med3d_components.masks import write_nifti
from tests.masks.shapes import QUATERNION, SHAPE, nested_mask, oblique_affine, scan_header, write_by_bytes, write_scan

sitk: Any = pytest.importorskip("SimpleITK")

GEOMETRY = ("qform_code", "sform_code", *QUATERNION, "srow_x", "srow_y", "srow_z", "xyzt_units")

KINDS = [
    *(
        "plain",
        "oblique",
        "forms apart",
        "both codes 0",
        "qform alone",
        "no quaternion",
        "metres",
        "microns",
        "no unit",
    ),
    *("big-endian", "NIfTI-2", "one slice", "two axes", "channels"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_has_the_numbers_of_its_scan_and_lies_where_nibabel_and_itk_see_it(tmp_path: Path, kind: str) -> None:
    scan = write_by_bytes(tmp_path / ("ct.nii" if kind == "plain" else "ct.nii.gz"), scan_header(kind))
    shape = (*SHAPE[:2], 1) if kind in ("one slice", "two axes") else SHAPE
    mask = nested_mask()[:, :, 12 : 12 + shape[2]] if shape[2] == 1 else nested_mask()
    write_nifti(tmp_path / "mask.nii.gz", [mask], shape, np.uint8, scan)

    written, theirs = nib.load(tmp_path / "mask.nii.gz"), scan_header(kind)
    assert written.shape == shape
    assert np.array_equal(written.affine, nib.load(scan).affine)
    with gzip.open(tmp_path / "mask.nii.gz") as file:
        ours = written.header.from_fileobj(file, check=False)
    for field in GEOMETRY:
        assert np.array_equal(ours[field], theirs[field]), field
    assert np.array_equal(ours["pixdim"][:4], theirs["pixdim"][:4])
    assert (ours.get_data_dtype(), ours.endianness) == (np.uint8, "<")
    assert (float(ours["scl_slope"]), float(ours["scl_inter"])) == (1, 0)
    assert (bytes(ours["descrip"]).strip(b"\0"), int(ours["intent_code"])) == (b"", 0)
    assert np.array_equal(np.asarray(written.dataobj), mask)

    if kind in ("two axes", "channels", "NIfTI-2"):
        return  # ITK opens these with other dimensions, or not at all
    one, two = sitk.ReadImage(str(tmp_path / "mask.nii.gz")), sitk.ReadImage(str(scan))
    assert one.GetSize() == two.GetSize() == shape
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(one, name)() == getattr(two, name)()
    assert np.array_equal(sitk.GetArrayFromImage(one).T, mask)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz", "dicom"])
def test_the_corners_of_a_mask_are_those_of_its_scan_in_any_format(tmp_path: Path, ending: str) -> None:
    series = write_scan(tmp_path / "series", oblique_affine())
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image, scan = reader.Execute(), series
    if ending != "dicom":
        scan = tmp_path / f"scan{ending}"
        sitk.WriteImage(image, str(scan))
    write_nifti(tmp_path / "mask.nii.gz", [nested_mask()], SHAPE, np.uint8, scan)
    mask = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    for corner in np.ndindex(2, 2, 2):
        index = [(length - 1) * end for length, end in zip(SHAPE, corner, strict=True)]
        one, two = (each.TransformIndexToPhysicalPoint(index) for each in (mask, image))
        assert np.allclose(one, two, atol=1e-4)
    head = nib.load(tmp_path / "mask.nii.gz").header
    assert (int(head["qform_code"]), int(head["sform_code"])) != (0, 0)
    assert np.allclose(head.get_qform(), head.get_sform(), atol=1e-4)
    assert head.get_xyzt_units()[0] == "mm"


def test_channels_come_last_and_equal_content_gives_equal_files(tmp_path: Path) -> None:
    scan = write_by_bytes(tmp_path / "ct.nii.gz", scan_header("plain"))
    volumes = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", (volume for volume in volumes), (*SHAPE, 3), np.float32, scan)
    assert np.array_equal(nib.load(tmp_path / "a.nii.gz").dataobj, np.moveaxis(volumes, 0, -1))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_mask_of_another_size_is_not_written(tmp_path: Path) -> None:
    scan = write_by_bytes(tmp_path / "ct.nii.gz", scan_header("plain"))
    with pytest.raises(ValueError, match=r"ct.nii.gz has 40 x 32 x 24 voxels, but its result 40 x 24 x 32"):
        write_nifti(tmp_path / "mask.nii.gz", [np.zeros((40, 24, 32))], (40, 24, 32), np.uint8, scan)
    assert not (tmp_path / "mask.nii.gz").exists()
