from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from med3d_components.data.listing import case_name, list_images, list_volumes
from tests.data.dicom_files import write_series


def test_files_and_dicom_folders_are_listed_and_anything_else_is_left_out(tmp_path: Path) -> None:
    for name in ("b.nrrd", "a.nii.gz", "notes.txt", "._a.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    write_series(tmp_path / "c", np.zeros((4, 5, 3)), np.eye(4))
    names = ["a.nii.gz", "b.nrrd", "c"]
    assert [path.name for path in list_volumes(tmp_path)] == names
    assert list_images(tmp_path) == [{"image": str(tmp_path / name)} for name in names]
    for name in names:
        assert list_volumes(tmp_path / name) == [tmp_path / name]
    for path in (tmp_path / "none", tmp_path / "notes.txt", tmp_path / "empty"):
        with pytest.raises(FileNotFoundError, match=r"holds no volume; give a \.nii, .* file"):
            list_volumes(path)


def test_a_dicom_folder_that_is_no_single_series_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for uid in ("1.2.3", "1.2.4"):
        write_series(tmp_path / "two", np.zeros((4, 5, 3)), np.eye(4), series_uid=uid)
    with pytest.raises(ValueError, match="series"):
        list_images(tmp_path)


def test_two_volumes_whose_results_would_have_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("ct.nii.gz", "ct.nrrd"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"ct\.nii\.gz and .*ct\.nrrd have one name"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("path", "name"),
    [("x/scan.nii.gz", "scan"), ("scan.NII", "scan"), ("scan.v1.nrrd", "scan.v1"), ("series.1", "series.1")],
)
def test_the_name_of_a_case_is_that_of_its_file_without_the_format(path: str, name: str) -> None:
    assert case_name(path) == name
