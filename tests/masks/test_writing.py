from __future__ import annotations

import errno
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from med3d_components.masks import FORMATS, check_formats, write_mask, writing
from med3d_components.utils.options import OPTIONS
from tests.masks.shapes import CLASSES, SHAPE, nested_mask, upright_affine


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), upright_affine()), path)
    return path


def test_names_and_colours_lie_beside_a_mask_for_slicer_and_itk_snap(tmp_path: Path, scan: Path) -> None:
    write_mask(nested_mask(), scan, tmp_path / "ct_seg", ["background", "left lung", 'a "big" tumour'])
    assert (tmp_path / "ct_seg.ctbl").read_text(encoding="utf-8").splitlines()[2:] == [
        "0 background 0 0 0 0",
        "1 left_lung 230 159 0 255",
        '2 a_"big"_tumour 86 180 233 255',
    ]
    rows = (tmp_path / "ct_seg.label.txt").read_text(encoding="utf-8").splitlines()
    assert [row for row in rows if not row.startswith("#")] == [
        '0 0 0 0 0 0 0 "Clear Label"',
        '1 230 159 0 1 1 1 "left lung"',
        "2 86 180 233 1 1 1 \"a 'big' tumour\"",
    ]


def test_each_class_may_have_a_file_of_its_own(tmp_path: Path, scan: Path) -> None:
    files = write_mask(nested_mask(), scan, tmp_path / "a" / "ct_seg", CLASSES, separate_classes=True)
    endings = (".nii.gz", ".ctbl", ".label.txt", "_left_lung.nii.gz", "_liver_tumour.nii.gz")
    assert [file.name for file in files] == [f"ct_seg{ending}" for ending in endings]
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == sorted(file.name for file in files)
    for value, name in ((1, "left_lung"), (2, "liver_tumour")):
        mask = nib.load(tmp_path / "a" / f"ct_seg_{name}.nii.gz")
        assert np.array_equal(mask.dataobj, nested_mask() == value)
        assert np.array_equal(mask.affine, nib.load(scan).affine)


def test_labels_are_as_small_as_the_number_of_classes_allows(tmp_path: Path, scan: Path) -> None:
    for count, dtype in ((256, np.uint8), (257, np.uint16)):
        mask = nested_mask().astype(np.int64)
        mask[0, 0, 0] = count - 1
        write_mask(mask, scan, tmp_path / f"{count}", [f"class {value}" for value in range(count)])
        written = nib.load(tmp_path / f"{count}.nii.gz")
        assert written.get_data_dtype() == dtype
        assert np.array_equal(written.dataobj, mask)


def test_a_file_that_is_there_is_left_alone_and_nothing_else_is_written(tmp_path: Path, scan: Path) -> None:
    (tmp_path / "ct_seg.label.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"ct_seg.label.txt exists already and is not overwritten"):
        write_mask(nested_mask(), scan, tmp_path / "ct_seg", CLASSES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct.nii.gz", "ct_seg.label.txt"]
    assert (tmp_path / "ct_seg.label.txt").read_text() == "mine"


def test_a_full_disk_leaves_no_part_of_a_result(tmp_path: Path, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "write_label_description", full)
    with pytest.raises(OSError, match="No space left"):
        write_mask(nested_mask(), scan, tmp_path / "results" / "ct_seg", CLASSES)
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"formats": []}, "must be one or several of nii.gz, seg.nrrd, dicom-seg, rtstruct"),
        ({"formats": ["nii.gz", "nii"]}, "must be one or several of"),
        ({"classes": ["background", "lung"]}, r"ct.nii.gz has values from 0 to 2, .* of 2 classes, 0 to 1"),
        ({"classes": ["background", "a b", "a_b"], "separate_classes": True}, "would have one file"),
        ({"formats": "rtstruct"}, r"ct.nii.gz is no DICOM series, .* choose nii.gz or seg.nrrd"),
        ({"formats": ["nii.gz", "dicom-seg"]}, r"ct.nii.gz is no DICOM series"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(tmp_path: Path, scan: Path, change: dict, error: str) -> None:
    if "dicom-seg" in change.get("formats", ""):
        pytest.importorskip("highdicom")
    with pytest.raises(ValueError, match=error):
        write_mask(nested_mask(), scan, tmp_path / "ct_seg", **{"classes": CLASSES, **change})
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]


def test_the_options_of_the_bundles_name_these_formats() -> None:
    assert OPTIONS["format"].choices == tuple(FORMATS)


def test_without_highdicom_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("med3d_components.masks.dicom_seg.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "med3d-components\[dicom\]", or choose nii.gz'):
        check_formats(["nii.gz", "dicom-seg"])
    assert check_formats(["nii.gz", "rtstruct"]) == ("nii.gz", "rtstruct")
