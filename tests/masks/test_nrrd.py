from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from med3d_components.masks import class_color, write_mask
from tests.masks.shapes import CLASSES, nested_mask, oblique_affine, write_scan

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
