"""Where the slices of a series lie, and what is wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import itk
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    RLELossless,
)
from scipy.spatial.transform import Rotation

from med3d_components.data.dicom import find_series, is_dicom_folder, read_series
from tests.data.dicom_files import Change, write_series, write_slices
from tests.data.dicom_judges import (
    AXIAL,
    HU,
    OBLIQUE,
    STORED,
    VOLUME,
    assert_as_simpleitk_reads,
    corners,
    rename_tag,
    setting,
)


@pytest.mark.parametrize("shuffle", [False, True], ids=["sorted", "shuffled"])
@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_a_series_has_the_geometry_that_was_written_and_that_simpleitk_reads(
    tmp_path: Path, affine: np.ndarray, shuffle: bool
) -> None:
    written = write_series(tmp_path, VOLUME, affine, patient="Patient 7", shuffle=shuffle)
    series = read_series(tmp_path)
    assert series.shape == VOLUME.shape
    assert (series.uid, series.patient, series.folder) == (written.uid, "Patient 7", tmp_path)
    assert series.instance_uids == tuple(written.instance_uids)
    assert ([file.name for file in series.files] == sorted(file.name for file in series.files)) is not shuffle
    np.testing.assert_allclose(series.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(series.read(), VOLUME)
    assert_as_simpleitk_reads(series)


@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_itk_reads_neighbouring_files_as_that_part_of_the_volume(tmp_path: Path, affine: np.ndarray) -> None:
    write_series(tmp_path, VOLUME, affine, shuffle=True)
    series = read_series(tmp_path)
    part = itk.imread([str(file) for file in series.files[3:7]])
    np.testing.assert_array_equal(itk.array_from_image(part).T, VOLUME[:, :, 3:7])
    lps_to_ras = np.diag([-1, -1, 1])
    np.testing.assert_allclose(lps_to_ras @ part.GetOrigin(), (series.affine @ [0, 0, 3, 1])[:3], atol=1e-5)
    axes = lps_to_ras @ itk.array_from_matrix(part.GetDirection()) * np.asarray(part.GetSpacing())
    np.testing.assert_allclose(axes, series.affine[:3, :3], atol=1e-5)


def test_files_need_no_ending_and_others_do_not_disturb(tmp_path: Path) -> None:
    written = write_series(tmp_path, VOLUME, AXIAL, suffix=".dcm")
    for file in sorted(tmp_path.iterdir()):
        file.rename(file.with_suffix(""))
    (tmp_path / ".hidden.dcm").write_bytes(b"")
    (tmp_path / "notes.xml").write_text("<a/>")
    (tmp_path / "below.dcm").mkdir()
    assert is_dicom_folder(tmp_path)
    series = read_series(tmp_path)
    assert series.uid == written.uid
    assert len(series.files) == 9


def test_only_a_folder_that_holds_dicom_files_itself_is_one(tmp_path: Path) -> None:
    write_series(tmp_path / "series", VOLUME, AXIAL)
    (tmp_path / "ct.nii.gz").write_bytes(b"no DICOM" * 100)
    (tmp_path / ".hidden.dcm").write_bytes(b"")
    assert is_dicom_folder(tmp_path / "series")
    assert not is_dicom_folder(tmp_path)
    assert not is_dicom_folder(tmp_path / "series" / "000001.dcm")
    assert not is_dicom_folder(tmp_path / "nowhere")


def test_a_missing_folder_and_one_without_dicom_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        read_series(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"{tmp_path} holds no DICOM volume"):
        read_series(tmp_path)


def test_two_series_in_a_folder_are_named_with_their_counts(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME, AXIAL, series_uid="1.2.3")
    write_series(tmp_path, VOLUME[:, :, :4], AXIAL, series_uid="1.2.4")
    with pytest.raises(ValueError, match=r"holds 2 series: 1\.2\.3 \(9 slices\), 1\.2\.4 \(4 slices\)"):
        read_series(tmp_path)


@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_the_gap_of_a_missing_slice_is_told(tmp_path: Path, affine: np.ndarray) -> None:
    write_series(tmp_path, VOLUME, affine, leave_out=[4])
    with pytest.raises(ValueError, match=r"misses slices.*000004\.dcm.*000006\.dcm\) it is 3 mm, elsewhere 1\.5 mm"):
        read_series(tmp_path)


def test_positions_in_tenths_of_a_millimetre_are_even_enough(tmp_path: Path) -> None:
    for k, position in enumerate((0, 0.6, 1.3, 1.9, 2.5)):
        affine = np.diag([-1.0, -1, 0.625, 1])
        affine[2, 3] = position - 0.625 * k
        write_series(tmp_path, np.zeros((4, 4, 5)), affine, series_uid="1.2", leave_out=set(range(5)) - {k})
    assert read_series(tmp_path).shape == (4, 4, 5)


def test_the_place_of_a_gap_is_its_position(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME, AXIAL, leave_out=[2, 3])
    with pytest.raises(ValueError, match=r"from -98\.5 mm \(000002\.dcm\) to -94 mm \(000005\.dcm\) it is 4\.5 mm"):
        read_series(tmp_path)


def test_a_slice_between_two_others_is_uneven(tmp_path: Path) -> None:
    shifted = AXIAL.copy()
    shifted[2, 3] += 1.5 * 8 + 0.7  # its only slice lies 0.7 mm above the last of the others
    write_series(tmp_path, VOLUME, AXIAL, series_uid="1.2.3")
    write_series(tmp_path, VOLUME[:, :, :1], shifted, series_uid="1.2.3")
    with pytest.raises(ValueError, match=r"unevenly spaced.* 0\.7 mm, elsewhere 1\.5 mm"):
        read_series(tmp_path)


def test_positions_that_were_rounded_are_even_enough(tmp_path: Path) -> None:
    for k in range(9):
        affine = AXIAL.copy()
        affine[2, 3] += 1.5 * k + (0.004 if k % 2 else -0.004)
        write_series(tmp_path, VOLUME[:, :, k : k + 1], affine, series_uid="1.2.3")
    np.testing.assert_allclose(read_series(tmp_path).affine, AXIAL, atol=0.005)


def test_two_slices_at_one_position_that_nothing_tells_apart_are_named(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED, AXIAL, uid="1.2.3")
    write_slices(tmp_path, STORED[:, :, :1] + 1, AXIAL, uid="1.2.3")
    with pytest.raises(ValueError, match=r"two slices at -100 mm, 000001\.dcm and 000025\.dcm, and no tag tells"):
        read_series(tmp_path)


def test_a_copy_of_a_slice_counts_once_and_is_told(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED, AXIAL)
    shutil.copy(tmp_path / "000003.dcm", tmp_path / "copy.dcm")
    found = find_series(tmp_path)
    assert found.notes == [f"passed over 1 x copy of a slice, first {tmp_path / 'copy.dcm'}"]
    np.testing.assert_array_equal(found.series[0].read(), HU)


def test_a_copy_that_is_packed_otherwise_or_lacks_the_patient_is_a_copy(tmp_path: Path) -> None:
    write_slices(tmp_path / "a", STORED, AXIAL)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for file in (tmp_path / "b").iterdir():
        header = pydicom.dcmread(file)
        uid = header.SOPInstanceUID
        header.compress(RLELossless)
        header.SOPInstanceUID = uid
        del header.PatientID, header.StudyInstanceUID
        header.save_as(file)
    found = find_series(tmp_path)
    assert found.notes == [f"passed over 24 x copy of a slice, first {tmp_path / 'b' / '000001.dcm'}"]
    np.testing.assert_array_equal(found.series[0].read(), HU)


@pytest.mark.parametrize(("other", "step", "what"), [(STORED + 1, 0, "voxels"), (STORED, 0.75, "headers")])
def test_two_slices_of_one_instance_uid_that_differ_are_a_failure(
    tmp_path: Path, other: np.ndarray, step: float, what: str
) -> None:
    numbered = setting(SOPInstanceUID=lambda k: f"1.2.3.{k + 1}")
    moved = AXIAL.copy()
    moved[2, 3] += step
    write_slices(tmp_path / "a", STORED, AXIAL, numbered, uid="1.2.3")
    write_slices(tmp_path / "b", other, moved, numbered, uid="1.2.3")
    good = write_slices(tmp_path / "c", STORED, AXIAL)
    found = find_series(tmp_path)
    assert [series.uid for series in found.series] == [good]
    ((path, reason),) = found.failures
    assert path == f"{tmp_path}::1.2.3"
    files = f"{tmp_path / 'a' / '000001.dcm'} and {tmp_path / 'b' / '000001.dcm'}"
    assert reason.startswith(f"{files} have one SOPInstanceUID, but their {what} differ; ")


@pytest.mark.parametrize(("tag", "what"), [("PatientID", "patients"), ("StudyInstanceUID", "studies")])
@pytest.mark.parametrize("step", [0.75, 24 * 1.5], ids=["between", "above"])
def test_two_patients_or_studies_of_one_series_uid_are_a_failure(
    tmp_path: Path, tag: str, what: str, step: float
) -> None:
    moved = AXIAL.copy()
    moved[2, 3] += step
    write_slices(tmp_path / "a", STORED, AXIAL, uid="1.2.3")
    write_slices(tmp_path / "b", STORED, moved, setting(**{tag: "1.2.9"}), uid="1.2.3")
    found = find_series(tmp_path)
    assert found.series == []
    ((path, reason),) = found.failures
    assert path == f"{tmp_path}::1.2.3"
    assert reason.startswith(f"{tmp_path / 'a'}, {tmp_path / 'b'} are of different {what} ({tag}), but have one Series")
    np.testing.assert_array_equal(read_series(tmp_path / "a").read(), HU)
    for file in (tmp_path / "b").iterdir():
        file.rename(tmp_path / "a" / f"b{file.name}")
    with pytest.raises(ValueError, match=rf"a/000001\.dcm, .*a/b000001\.dcm are of different {what}"):
        read_series(tmp_path / "a")


@pytest.mark.parametrize("tag", ["PatientID", "StudyInstanceUID"])
def test_a_patient_or_study_that_some_slices_lack_is_no_contradiction(tmp_path: Path, tag: str) -> None:
    write_slices(tmp_path, STORED, AXIAL, lambda header, k: k % 2 and setattr(header, tag, ""))
    np.testing.assert_array_equal(read_series(tmp_path).read(), HU)


NEARLY_AXIAL = np.eye(4)
NEARLY_AXIAL[:3, :3] = Rotation.from_euler("z", 0.5, degrees=True).as_matrix()
NEARLY_AXIAL = NEARLY_AXIAL @ AXIAL
OTHER_SPACING = AXIAL @ np.diag([1.1, 1, 1, 1])


@pytest.mark.parametrize(
    ("pixels", "affine", "message"),
    [
        (VOLUME[:18], AXIAL, "different size: 000001.dcm has 20 16, 000010.dcm has 18 16"),
        (VOLUME, OTHER_SPACING, "different pixel spacing: 000001.dcm has 0.7 0.8, 000010.dcm has 0.77 0.8"),
        (VOLUME, NEARLY_AXIAL, "different direction: 000001.dcm has"),
    ],
    ids=["size", "spacing", "direction"],
)
def test_slices_that_do_not_fit_each_other_are_named(
    tmp_path: Path, pixels: np.ndarray, affine: np.ndarray, message: str
) -> None:
    write_series(tmp_path, VOLUME, AXIAL, series_uid="1.2.3")
    write_series(tmp_path, pixels[:, :, :1], affine, series_uid="1.2.3")
    with pytest.raises(ValueError, match=message):
        read_series(tmp_path)


def test_slices_of_a_tilted_gantry_are_refused(tmp_path: Path) -> None:
    for k in range(9):
        affine = AXIAL.copy()
        affine[1:3, 3] += (0.3 * k, 1.5 * k)
        write_series(tmp_path, VOLUME[:, :, k : k + 1], affine, series_uid="1.2.3")
    with pytest.raises(ValueError, match=r"shifted sideways by up to 2\.4 mm"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("tag", "missing"),
    [((0x20, 0x32), "no position"), ((0x20, 0x37), "no orientation"), ((0x28, 0x30), "no pixel spacing")],
)
def test_a_slice_without_a_place_is_named(tmp_path: Path, tag: tuple[int, int], missing: str) -> None:
    write_series(tmp_path, VOLUME, AXIAL)
    rename_tag(tmp_path / "000005.dcm", tag, (tag[0], tag[1] + 1))
    with pytest.raises(ValueError, match=f"000005.dcm has {missing}"):
        read_series(tmp_path)


def test_frames_without_a_place_each_are_named(tmp_path: Path) -> None:
    def strip(header: Dataset, k: int) -> None:
        header.NumberOfFrames, header.Rows = 2, 4

    write_slices(tmp_path, STORED[:, :, :1], AXIAL, strip)
    with pytest.raises(ValueError, match=r"000001\.dcm holds 2 slices without a place for each"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [lambda x: x[:-1], lambda x: x[: len(x) // 2], lambda x: x[:200], lambda x: x[:100], lambda x: b""],
    ids=["last byte", "half", "tags", "preamble", "empty"],
)
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write_series(tmp_path, VOLUME, AXIAL)
    file = tmp_path / "000009.dcm"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"000009\.dcm is cut off or no DICOM image"):
        read_series(tmp_path)


CHANGES: dict[str, Change] = {
    "date and number": setting(SeriesDate=lambda k: f"2020010{1 + (k > 14)}", SeriesNumber=lambda k: 1 + (k > 14)),
    "sequence name": setting(SequenceName=lambda k: "a" if k < 15 else "b"),
    "thickness": setting(SliceThickness=lambda k: ("2.5", "2.500001", None)[k // 8]),
    "acquisition": setting(AcquisitionNumber=lambda k: 1 + (k > 14)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_slices_whose_other_tags_differ_are_one_volume(tmp_path: Path, change: Change) -> None:
    write_slices(tmp_path, STORED, OBLIQUE, change)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.read(), HU)
    np.testing.assert_allclose(corners(series.shape, series.affine), corners(HU.shape, OBLIQUE), atol=0.01)
