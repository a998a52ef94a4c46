from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from med3d_components.data.dicom import read_series
from med3d_components.masks import write_mask
from med3d_components.prepare.layouts import find_layout, layout_of
from tests.masks.shapes import CLASSES, nested_mask, upright_affine, write_scan
from tests.prepare.layouts.test_patterns import touch


def write_dicom(folder: Path, *patients: str, formats: str = "rtstruct") -> Path:
    """Write a series and a structure set for each patient, far from each other."""
    for number, patient in enumerate(patients):
        affine = upright_affine()
        affine[2, 3] += 500 * number
        scan = write_scan(folder / patient / "series" / "1.2", affine)
        write_mask(nested_mask(), scan, folder / patient / "results" / "mask", CLASSES, formats)
    return folder


@pytest.mark.parametrize(
    ("files", "title", "cases"),
    [
        (
            [
                "s1/ct.nii.gz",
                "s1/segmentations/liver.nii.gz",
                "s2/ct.nii.gz",
                "s2/segmentations/liver.nii.gz",
                "meta.csv",
            ],
            "a mask for each class beside ct.nii.gz, as of TotalSegmentator",
            ["s1", "s2"],
        ),
        (["images/a.nii", "masks/a.nii"], "a folder of images and one of labels", ["a"]),
        (["imagesTr/a_0000.nii", "labelsTr/a.nii"], "a folder of images and one of labels", ["a"]),
        (["p/a.nii.gz", "p/a.seg.nrrd", "b.mha", "b-label.mha"], "labels beside their scans", ["b", "p/a"]),
    ],
)
def test_a_layout_is_known_by_its_files(tmp_path: Path, files: list[str], title: str, cases: list[str]) -> None:
    layout = find_layout(touch(tmp_path, *files))
    assert (layout.title, sorted(layout.cases)) == (title, cases)


def test_dicom_labels_find_their_series_at_any_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dicom(tmp_path, "P1", "P2")
    write_scan(tmp_path / "P2" / "other", upright_affine())
    layout = find_layout(tmp_path)
    assert layout.title == "DICOM series with RTSTRUCT"
    series = [tmp_path / patient / "series" / "1.2" for patient in ("P1", "P2")]
    assert {case: files.images for case, files in layout.cases.items()} == {
        read_series(path).uid: (path,) for path in series
    }
    assert layout.channels == ("CT",)
    assert "1 of 3 series have no SEG or RTSTRUCT and are left out" in capsys.readouterr().out


def test_several_structure_sets_of_one_series_are_one_case(tmp_path: Path) -> None:
    write_dicom(tmp_path, "P1")
    write_mask(nested_mask(), tmp_path / "P1/series/1.2", tmp_path / "more", ["background", "a", "b"], "rtstruct")
    ((_, case),) = find_layout(tmp_path).cases.items()
    assert len(case.labels) == 2


def test_dicom_labels_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    write_dicom(tmp_path, "P1")
    (tmp_path / "P1" / "results").rename(tmp_path / "labels")
    layout = layout_of(str(tmp_path / "P1"), str(tmp_path / "labels"))
    ((_, case),) = layout.cases.items()
    assert case.images == (tmp_path / "P1/series/1.2",)
    alone = layout_of(str(tmp_path / "P1/series/1.2"), str(next((tmp_path / "labels").rglob("*.dcm"))))
    assert list(alone.cases.values()) == [case]


def test_a_label_whose_series_is_broken_says_why(tmp_path: Path) -> None:
    write_dicom(tmp_path, "P1")
    sorted((tmp_path / "P1/series/1.2").iterdir())[5].unlink()
    with pytest.raises(ValueError, match=r"belongs to no series here .*misses slices or has them unevenly spaced"):
        find_layout(tmp_path)


def test_two_paths_may_be_files_folders_or_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "a/ct.nii", "a/seg.nii", "scans/x.nii", "labels/x.nii")
    for images, labels, cases in (
        ("a/ct.nii", "a/seg.nii", ["ct"]),
        ("scans", "labels", ["x"]),
        ("{case}/ct.nii", "{case}/seg.nii", ["a"]),
    ):
        assert list(layout_of(f"{tmp_path}/{images}", f"{tmp_path}/{labels}").cases) == cases
    with pytest.raises(FileNotFoundError, match=r"y.nii does not exist; give a file, a folder, or a pattern"):
        layout_of(str(tmp_path / "a/ct.nii"), str(tmp_path / "y.nii"))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["a/ct.nii", "a/tumour.nii"], r"has no layout that is known; give --images and --labels, or --pairs"),
        (["images/a.nii", "masks/a.nii", "b.nii", "b_seg.nii"], r"can be read in 2 ways: .*, or labels beside"),
        (["a.nii", "a_seg.nii", "b.nii"], r"b.nii has no label beside it; add it, or move the file out"),
        (["a.nii", "a_seg.nii", "a.seg.nrrd"], r"a.nii has two labels, .*; move one away"),
        ([], r"has no layout that is known"),
    ],
)
def test_a_folder_that_is_not_clear_gets_one_line(tmp_path: Path, files: list[str], reason: str) -> None:
    with pytest.raises((FileNotFoundError, ValueError), match=reason):
        find_layout(touch(tmp_path, *files))


def test_a_file_is_no_source(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(FileNotFoundError, match=r"a.npy is no folder; give the one that holds the scans"):
        find_layout(tmp_path / "a.npy")
