"""Which series and volumes the files of a folder are."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from med3d_components.data.dicom import find_series, read_series
from tests.data.dicom_files import Change, write_object, write_slices
from tests.data.dicom_judges import (
    AXIAL,
    HU,
    STORED,
    corners,
    setting,
)


def test_folders_named_alike_are_two_series_of_their_own_names(tmp_path: Path) -> None:
    folders = [tmp_path / f"3.000000-Chest-{number}" for number in (11111, 22222)]
    uids = [write_slices(folder, STORED + number, AXIAL) for number, folder in enumerate(folders)]
    found = find_series(tmp_path)
    assert [(series.path, series.name) for series in found.series] == [
        (str(folder), uid) for folder, uid in zip(folders, uids, strict=True)
    ]
    assert found.failures == []
    assert found.notes == []


def test_slices_of_one_series_in_two_folders_are_one_volume(tmp_path: Path) -> None:
    uid = write_slices(tmp_path / "S1", STORED[:, :, :15], AXIAL)
    shifted = AXIAL.copy()
    shifted[2, 3] += 15 * 1.5
    write_slices(tmp_path / "S2", STORED[:, :, 15:], shifted, uid=uid)
    series = find_series(tmp_path).series
    assert [one.path for one in series] == [f"{tmp_path}::{uid}"]
    assert series[0].folder == tmp_path
    for path in (tmp_path, series[0].path):
        np.testing.assert_array_equal(read_series(path).read(), HU)


def test_other_objects_localizers_and_single_slices_are_passed_over_with_a_line_for_each_kind(tmp_path: Path) -> None:
    uid = write_slices(tmp_path / "ct", STORED, AXIAL)
    for number in range(3):
        write_object(tmp_path / "ct" / f"rs{number}.dcm", "1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT")
    write_object(tmp_path / "report", "1.2.840.10008.5.1.4.1.1.88.33", "SR")
    scout = AXIAL[:, [0, 2, 1, 3]]
    write_slices(tmp_path / "ct", STORED[:, :, :1], scout, setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    write_slices(tmp_path / "ct", STORED[:, :, :1], scout, uid=uid)
    study = pydicom.dcmread(tmp_path / "ct" / "000001.dcm").StudyInstanceUID
    write_slices(tmp_path / "stray", STORED[:, :, :1], AXIAL, setting(StudyInstanceUID=study))
    write_slices(tmp_path / "dose", STORED[:, :, :2], AXIAL, setting(SamplesPerPixel=3))
    found = find_series(tmp_path)
    assert [series.path for series in found.series] == [str(tmp_path / "ct")]
    assert found.failures == []
    assert [note.split(", first ")[0] for note in found.notes] == [
        "passed over 3 x RTSTRUCT",
        "passed over 1 x SR",
        "passed over 2 x colour picture",
        "passed over 2 x localizer",
        "passed over 1 x single slice",
    ]
    np.testing.assert_array_equal(read_series(tmp_path / "ct").read(), HU)


def test_patient_study_series_and_a_flat_series_beside_are_found(tmp_path: Path) -> None:
    one = write_slices(tmp_path, STORED, AXIAL)
    two = write_slices(tmp_path / "patient" / "study" / "series", STORED, AXIAL)
    series = find_series(tmp_path).series
    assert [(x.uid, x.path) for x in series] == [(one, str(tmp_path)), (two, str(tmp_path / "patient/study/series"))]
    assert [read_series(x.path).uid for x in series] == [one, two]


def test_several_series_in_a_folder_are_read_by_their_names(tmp_path: Path) -> None:
    uids = sorted(write_slices(tmp_path, STORED + number, AXIAL) for number in range(2))
    series = find_series(tmp_path).series
    assert [x.path for x in series] == [f"{tmp_path}::{uid}" for uid in uids]
    assert [read_series(x.path).uid for x in series] == uids
    with pytest.raises(ValueError, match=r"holds no DICOM series 1\.2, but .* \(24 slices\)"):
        read_series(f"{tmp_path}::1.2")


def test_a_series_that_was_listed_is_opened_without_reading_headers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        write_slices(tmp_path, STORED[:, :, :4], AXIAL)
    series = find_series(tmp_path).series
    monkeypatch.setattr(pydicom, "dcmread", None)
    assert [read_series(one.path) for one in series] == series


def test_a_series_that_changed_since_is_read_anew(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED, AXIAL)
    assert read_series(tmp_path).shape[2] == 24
    (tmp_path / "000024.dcm").unlink()
    assert read_series(tmp_path).shape[2] == 23


def test_links_are_followed_once_and_a_link_to_nothing_fails_its_series(tmp_path: Path) -> None:
    uid = write_slices(tmp_path / "store" / "ct", STORED, AXIAL)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "link").symlink_to(tmp_path / "store" / "ct")
    (tmp_path / "cases" / "loop").symlink_to(tmp_path / "cases")
    found = find_series(tmp_path / "cases")
    assert [(series.uid, series.path) for series in found.series] == [(uid, str(tmp_path / "cases" / "link"))]
    assert found.failures == []
    (tmp_path / "store" / "ct" / "000024.dcm").unlink()
    (tmp_path / "store" / "ct" / "000024.dcm").symlink_to("nowhere")
    found = find_series(tmp_path / "cases")
    assert found.series == []
    assert [path for path, _ in found.failures] == [str(tmp_path / "cases" / "link")]


def test_a_broken_series_is_a_named_failure_and_the_others_are_found(tmp_path: Path) -> None:
    good = write_slices(tmp_path / "good", STORED, AXIAL)
    write_slices(tmp_path / "gap", STORED, AXIAL)
    (tmp_path / "gap" / "000010.dcm").unlink()
    write_slices(tmp_path / "cut", STORED, AXIAL)
    (tmp_path / "cut" / "000024.dcm").write_bytes((tmp_path / "cut" / "000024.dcm").read_bytes()[:-1])
    write_slices(tmp_path / "head", STORED, AXIAL)
    (tmp_path / "head" / "000024.dcm").write_bytes((tmp_path / "head" / "000024.dcm").read_bytes()[:100])
    found = find_series(tmp_path)
    assert [series.uid for series in found.series] == [good]
    reasons = {Path(path).name: reason for path, reason in found.failures}
    assert set(reasons) == {"gap", "cut", "head"}
    assert "misses slices" in reasons["gap"]
    assert f"{tmp_path / 'cut' / '000024.dcm'} is cut off" in reasons["cut"]
    assert f"{tmp_path / 'head' / '000024.dcm'} is cut off" in reasons["head"]


def test_a_single_slice_beside_volumes_that_is_broken_is_a_failure(tmp_path: Path) -> None:
    write_slices(tmp_path / "good", STORED, AXIAL)
    write_slices(tmp_path / "bad", STORED[:, :, :2], AXIAL, setting(PixelSpacing=lambda k: [1, k]))
    found = find_series(tmp_path)
    assert [series.path for series in found.series] == [str(tmp_path / "good")]
    assert [path for path, _ in found.failures] == [str(tmp_path / "bad")]


PARTS: dict[str, Change] = {
    "acquisition 2": setting(AcquisitionNumber=2),
    "temporal position 2": setting(TemporalPositionIdentifier=2),
    "echo time 4.92": setting(EchoTime=4.92),
    "echo 2": setting(EchoNumbers=2),
    "b-value 1000": setting(DiffusionBValue=1000.0),
    "image type ORIGINAL-PRIMARY-P": setting(ImageType=["ORIGINAL", "PRIMARY", "P"]),
    "acquisition 2 echo 2": setting(AcquisitionNumber=2, EchoNumbers=2),
}


@pytest.mark.parametrize(("part", "change"), PARTS.items(), ids=PARTS)
def test_volumes_of_one_uid_are_told_apart(tmp_path: Path, part: str, change: Change) -> None:
    usual = setting(
        AcquisitionNumber=1,
        TemporalPositionIdentifier=1,
        EchoTime=2.46,
        EchoNumbers=1,
        DiffusionBValue=0.0,
        ImageType=["ORIGINAL", "PRIMARY", "M"],
    )

    def other(header: Dataset, k: int) -> None:
        usual(header, k)
        change(header, k)

    uid = write_slices(tmp_path, STORED, AXIAL, usual, modality="MR")
    write_slices(tmp_path, STORED + 7, AXIAL, other, modality="MR", uid=uid)
    found = find_series(tmp_path)
    assert found.failures == []
    assert len(found.series) == 2
    by_part = {series.part: series for series in found.series}
    first = part.split(" echo 2")[0] if part.startswith("acq") else part  # one tag is enough
    assert first in by_part
    assert by_part[first].name == f"{uid}_{first.replace(' ', '_')}"
    np.testing.assert_array_equal(read_series(f"{tmp_path}::{by_part[first].name}").read(), STORED + 7)
    assert len({series.name for series in found.series}) == 2


def test_volumes_that_only_two_tags_together_tell_apart_are_read(tmp_path: Path) -> None:
    uid = None
    for acquisition, echo in product((1, 2), (1, 2)):
        change = setting(AcquisitionNumber=acquisition, EchoNumbers=echo)
        uid = write_slices(tmp_path, STORED + 10 * acquisition + echo, AXIAL, change, modality="MR", uid=uid)
    series = {one.part: one for one in find_series(tmp_path).series}
    assert len(series) == 4
    np.testing.assert_array_equal(series["acquisition 2 echo 1"].read(), STORED + 21)


def test_planes_of_one_uid_are_volumes_of_their_own(tmp_path: Path) -> None:
    uid = write_slices(tmp_path, STORED, AXIAL, modality="MR")
    sagittal = AXIAL[:, [1, 2, 0, 3]]
    write_slices(tmp_path, STORED[:, :, :5], sagittal, modality="MR", uid=uid)
    series = {one.part: one for one in find_series(tmp_path).series}
    assert set(series) == {"axial", "sagittal"}
    np.testing.assert_allclose(
        sorted(corners(series["sagittal"].shape, series["sagittal"].affine).tolist()),
        sorted(corners((10, 8, 5), sagittal).tolist()),
        atol=0.01,
    )


def test_slices_that_turn_are_no_localizers_but_a_series_that_failed(tmp_path: Path) -> None:
    for k in range(8):
        turned = np.eye(4)
        turned[:3, :3] = Rotation.from_euler("x", 20 * k, degrees=True).as_matrix()
        write_slices(tmp_path, STORED[:, :, :1], turned @ AXIAL, modality="MR", uid="1.2.3")
    found = find_series(tmp_path)
    assert (found.series, found.notes) == ([], [])
    assert "slices of different direction" in found.failures[0][1]


def test_three_slices_of_three_directions_are_a_localizer(tmp_path: Path) -> None:
    for axes in ([0, 1, 2, 3], [1, 2, 0, 3], [2, 0, 1, 3]):
        write_slices(tmp_path, STORED[:, :, :1], AXIAL[:, axes], modality="MR", uid="1.2.3")
    found = find_series(tmp_path)
    assert (found.series, found.failures) == ([], [])
    assert found.notes[0].startswith("passed over 3 x localizer")
    with pytest.raises(ValueError, match=r"holds no DICOM volume.*3 x localizer"):
        read_series(tmp_path)
