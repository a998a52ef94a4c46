from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from med3d_components.masks import class_color, write_mask
from tests.masks.shapes import (
    CLASSES,
    nested_mask,
    oblique_affine,
    scan_header,
    upright_affine,
    write_by_bytes,
    write_scan,
)
from tests.masks.test_nifti import KINDS

slicerio: Any = pytest.importorskip("slicerio")
LPS = np.diag([-1, -1, 1, 1])


@pytest.mark.parametrize("empty", [False, True])
def test_slicers_own_reader_finds_voxels_place_names_and_colours(tmp_path: Path, empty: bool) -> None:
    scan = write_scan(tmp_path / "scan", oblique_affine())
    mask = nested_mask() * (not empty)
    (file,) = write_mask(mask, scan, tmp_path / "scan_seg", CLASSES, "seg.nrrd")
    assert file.name == "scan_seg.seg.nrrd"
    found = slicerio.read_segmentation(file)
    assert np.array_equal(found["voxels"], mask)
    assert np.allclose(found["ijkToLPS"], LPS @ oblique_affine(), atol=1e-4)
    for value, segment in enumerate(found["segments"], start=1):
        assert (segment["name"], segment["labelValue"], segment["layer"]) == (CLASSES[value], value, 0)
        assert np.allclose(segment["color"], np.array(class_color(value)) / 255, atol=1e-5)
        low, high = np.reshape(segment["extent"], (3, 2)).T
        where = np.argwhere(mask == value)
        assert empty or (low.tolist(), high.tolist()) == (where.min(axis=0).tolist(), where.max(axis=0).tolist())
    lung, tumour = (segment["terminology"] for segment in found["segments"])
    assert (lung["type"][2], lung["typeModifier"][2], tumour["type"][2]) == ("Lung", "Left", "Neoplasm")


def test_itk_reads_the_same_voxels_in_the_same_place(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    scan = write_scan(tmp_path / "scan", oblique_affine())
    files = write_mask(nested_mask(), scan, tmp_path / "scan_seg", CLASSES, ["seg.nrrd", "nii.gz"])
    nrrd, nifti = (sitk.ReadImage(str(file)) for file in files[:2])
    assert np.array_equal(sitk.GetArrayFromImage(nrrd), sitk.GetArrayFromImage(nifti))
    assert np.allclose(nrrd.GetOrigin(), nifti.GetOrigin(), atol=1e-4)
    assert np.allclose(nrrd.GetDirection(), nifti.GetDirection(), atol=1e-5)


def sheared_header(with_qform: bool) -> Any:
    head, affine = scan_header("plain"), upright_affine()
    affine[0, 1] = 0.3
    head.set_sform(affine, 1)
    head["qform_code"] = int(with_qform)
    return head


@pytest.mark.parametrize("kind", [*sorted(set(KINDS) - {"two axes", "NIfTI-2"}), "sheared"])
def test_a_mask_lies_where_itk_sees_a_nifti_scan(tmp_path: Path, kind: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    head = sheared_header(with_qform=True) if kind == "sheared" else scan_header(kind)
    scan = write_by_bytes(tmp_path / "ct.nii.gz", head)
    mask = nested_mask()[:, :, 12:13] if kind == "one slice" else nested_mask()
    (file,) = write_mask(mask, scan, tmp_path / "ct_seg", CLASSES, "seg.nrrd")
    one, two = sitk.ReadImage(str(file)), sitk.ReadImage(str(scan))
    if kind == "channels":
        two = two[..., 0]
    assert one.GetSize() == two.GetSize() == mask.shape
    for corner in np.ndindex(2, 2, 2):
        index = [(length - 1) * end for length, end in zip(mask.shape, corner, strict=True)]
        here, there = (image.TransformIndexToPhysicalPoint(index) for image in (one, two))
        assert np.allclose(here, there, rtol=0, atol=1e-4)
    assert np.array_equal(sitk.GetArrayFromImage(one).T, mask)


@pytest.mark.parametrize("kind", ["NIfTI-2", "sheared"])
def test_where_itk_refuses_a_header_a_mask_lies_on_its_scan_and_a_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    head = sheared_header(with_qform=False) if kind == "sheared" else scan_header(kind)
    scan = write_by_bytes(tmp_path / "ct.nii.gz", head)
    (file,) = write_mask(nested_mask(), scan, tmp_path / "ct_seg", CLASSES, "seg.nrrd")
    found = slicerio.read_segmentation(file)
    assert np.array_equal(found["voxels"], nested_mask())
    assert np.allclose(LPS @ found["ijkToLPS"], nib.load(scan).affine, atol=1e-4)
    assert "ct.nii.gz: ITK cannot read its header, so 3D Slicer may not open the scan" in caplog.text
