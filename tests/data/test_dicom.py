from __future__ import annotations

import pickle
import shutil
import struct
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import itk
import numpy as np
import pydicom
import pytest
import SimpleITK
from nibabel.affines import apply_affine
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from scipy.spatial.transform import Rotation

from med3d_components.data.dicom import DicomSeries, find_series, is_dicom_folder, read_series
from tests.data.dicom_files import Change, write_enhanced, write_object, write_series, write_slices

VOLUME = np.random.default_rng(0).integers(-1000, 1000, (20, 16, 9))
AXIAL = np.array([[-0.7, 0, 0, 10], [0, -0.8, 0, 20], [0, 0, 1.5, -100], [0, 0, 0, 1]])
TURN = np.eye(4)
TURN[:3, :3] = Rotation.from_euler("xyz", (10, -20, 30), degrees=True).as_matrix()
OBLIQUE = TURN @ AXIAL


STORED = np.random.default_rng(1).integers(0, 2000, (10, 8, 24))
HU = STORED - 1024


def corners(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    return apply_affine(affine, list(product(*((0, length - 1) for length in shape))))


def read_by_simpleitk(series: DicomSeries) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels (i, j, k) and the corners in RAS mm."""
    files = [str(file) for file in series.files]
    image = SimpleITK.ReadImage(files if len(files) > 1 else files[0])
    index = product(*((0, length - 1) for length in image.GetSize()))
    points = [image.TransformIndexToPhysicalPoint([int(x) for x in one]) for one in index]
    return SimpleITK.GetArrayFromImage(image).T, np.array(points) * [-1, -1, 1]


def assert_as_simpleitk_reads(series: DicomSeries) -> None:
    voxels, points = read_by_simpleitk(series)
    np.testing.assert_allclose(series.read(), voxels, rtol=1e-6)
    np.testing.assert_allclose(corners(series.shape, series.affine), points, atol=0.01)


def setting(**values: object) -> Change:
    """Return a change that gives tags the values that depend on the slice, or one for all."""

    def change(header: Dataset, k: int) -> None:
        for keyword, value in values.items():
            setattr(header, keyword, value(k) if callable(value) else value)

    return change


def rename_tag(file: Path, old: tuple[int, int], new: tuple[int, int]) -> None:
    content = file.read_bytes()
    one, two = (struct.pack("<HH", *tag) for tag in (old, new))
    assert content[: content.index(b"MONOCHROME") + 100].count(one) == 1
    file.write_bytes(content.replace(one, two, 1))


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


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    slopes = [1.0] + [0.0002] * 23
    stored = np.full((10, 8, 24), 17000)
    stored[:, :, 0] = 3
    stored[0] = np.arange(24) + 1
    write_slices(tmp_path, stored, AXIAL, setting(RescaleSlope=lambda k: slopes[k]), modality="PT")
    voxels = read_series(tmp_path).read()
    assert voxels[5, 5, 7] == pytest.approx(3.4)
    for k, file in enumerate(sorted(tmp_path.iterdir())):
        header = pydicom.dcmread(file)
        expected = header.pixel_array.T * float(header.RescaleSlope) + float(header.RescaleIntercept)
        np.testing.assert_allclose(voxels[:, :, k], expected, rtol=1e-6)


def test_files_without_preamble_and_ending_are_slices_as_others(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED, AXIAL, syntax=ImplicitVRLittleEndian)
    for k, file in enumerate(sorted(tmp_path.iterdir())):
        if k % 4 == 0:
            content = file.read_bytes()
            length = int.from_bytes(content[140:144], "little")
            file.with_suffix("").write_bytes(content[144 + length :])
            file.unlink()
    np.testing.assert_array_equal(read_series(tmp_path).read(), HU)


def linear(world: np.ndarray) -> np.ndarray:
    return world @ [1.0, -2.0, 3.0] + 500


@pytest.mark.parametrize(
    ("shift", "places"),
    [((0.0, 0.3), np.arange(24)), ((0.25, -0.9), np.arange(24)), ((0.0, 0.0), np.arange(24) ** 1.2)],
    ids=["tilt", "tilt both ways", "uneven"],
)
def test_a_tilted_or_uneven_series_is_refused_or_resampled_by_an_option(
    tmp_path: Path, shift: tuple[float, float], places: np.ndarray
) -> None:
    step = np.median(np.diff(places))
    for place in places:
        affine = np.diag([-0.7, -0.8, 1.5, 1])
        affine[:3, 3] = (shift[0] * place, shift[1] * place, 1.5 * place)
        index = np.stack(np.meshgrid(np.arange(40), np.arange(30), [0], indexing="ij"), axis=-1)
        stored = np.round(10 * linear(apply_affine(affine, index))).astype(int)
        change = setting(RescaleSlope=0.1, RescaleIntercept=0)
        write_slices(tmp_path, stored, affine, change, uid="1.2.3")
    with pytest.raises(ValueError, match="unevenly spaced" if shift == (0, 0) else "shifted sideways"):
        read_series(tmp_path)
    series = read_series(tmp_path, resample=True)
    assert [one.path for one in find_series(tmp_path, resample=True).series] == [str(tmp_path)]
    np.testing.assert_allclose(np.linalg.norm(series.affine[:3, :3], axis=0), [0.7, 0.8, 1.5 * step], atol=1e-5)
    voxels = series.read()
    world = apply_affine(series.affine, np.moveaxis(np.indices(series.shape), 0, -1))
    beyond = np.subtract(series.shape, (40, 30, 0))
    inside = tuple(slice(extra, length - 1) for extra, length in zip(beyond[:2], (40, 30), strict=True))
    np.testing.assert_allclose(voxels[inside], linear(world)[inside], atol=0.06)  # stored in tenths
    first = voxels[:, :, 0]
    assert np.count_nonzero(first > -1024) == 40 * 30
    np.testing.assert_allclose(first[first > -1024], linear(world)[:, :, 0][first > -1024], atol=0.06)
    box = (slice(3, 9), slice(2, 20), slice(5, 11))
    np.testing.assert_array_equal(series.read(box), voxels[box])


def test_a_resampled_volume_does_not_grow_beyond_bounds(tmp_path: Path) -> None:
    places = [0, 1, 2, 1000]
    for place in places:
        affine = AXIAL.copy()
        affine[2, 3] += place
        write_slices(tmp_path, STORED[:, :, :1], affine, uid="1.2.3")
    with pytest.raises(ValueError, match="it would have 10 x 8 x 1001 voxels, more than 8 times"):
        read_series(tmp_path, resample=True)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_frames_of_an_enhanced_file_have_their_own_place_and_slope(tmp_path: Path, modality: str) -> None:
    order = np.random.default_rng(2).permutation(24)

    def change(group: Dataset, k: int) -> None:
        values = group.PixelValueTransformationSequence[0]
        values.RescaleSlope, values.RescaleIntercept = 1 + k / 8, -k
        place = (OBLIQUE @ [0, 0, order[k], 1])[:3] * [-1, -1, 1]
        group.PlanePositionSequence[0].ImagePositionPatient = place.round(6).tolist()

    write_enhanced(tmp_path / "frames", STORED, OBLIQUE, modality, change)
    series = read_series(tmp_path)
    assert (series.modality, series.shape, series.files) == (modality, STORED.shape, (tmp_path / "frames",))
    expected = np.empty(STORED.shape)
    expected[:, :, order] = STORED * (1 + np.arange(24) / 8) - np.arange(24)
    np.testing.assert_allclose(series.read(), expected, rtol=1e-6)
    np.testing.assert_array_equal(series.read((slice(2, 5), slice(0, 8), slice(7, 9))), series.read()[2:5, :, 7:9])
    np.testing.assert_allclose(corners(series.shape, series.affine), corners(STORED.shape, OBLIQUE), atol=0.01)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_simpleitk_reads_a_plain_enhanced_file_alike(tmp_path: Path, modality: str) -> None:
    write_enhanced(tmp_path / "frames.dcm", STORED, OBLIQUE, modality)
    assert_as_simpleitk_reads(read_series(tmp_path))


def test_an_enhanced_file_of_gdcm_is_read(tmp_path: Path) -> None:
    image = itk.image_from_array(np.ascontiguousarray(HU.T.astype(np.int16)))
    image.SetSpacing([0.5, 0.6, 2.0])
    image.GetMetaDataDictionary()["0008|0016"] = "1.2.840.10008.5.1.4.1.1.2"
    itk.imwrite(image, str(tmp_path / "frames.dcm"), imageio=itk.GDCMImageIO.New())
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.read(), HU)
    np.testing.assert_allclose(series.affine, np.diag([-0.5, -0.6, 2, 1]))


ENHANCED_PARTS: dict[str, Callable[[Dataset, int], object]] = {
    "temporal position 2": lambda group, part: setattr(group.FrameContentSequence[0], "TemporalPositionIndex", part),
    "stack 2": lambda group, part: setattr(group.FrameContentSequence[0], "StackID", str(part)),
    "dimension 1 2": lambda group, part: setattr(
        group.FrameContentSequence[0],
        "DimensionIndexValues",
        [part, group.FrameContentSequence[0].DimensionIndexValues[1]],
    ),
}


@pytest.mark.parametrize(("part", "mark"), ENHANCED_PARTS.items(), ids=ENHANCED_PARTS)
def test_volumes_in_one_enhanced_file_are_told_apart(
    tmp_path: Path, part: str, mark: Callable[[Dataset, int], object]
) -> None:
    def change(group: Dataset, k: int) -> None:
        place = (AXIAL @ [0, 0, k % 12, 1])[:3] * [-1, -1, 1]
        group.PlanePositionSequence[0].ImagePositionPatient = place.round(6).tolist()
        group.FrameContentSequence[0].DimensionIndexValues = [1, k % 12 + 1]
        mark(group, 1 + k // 12)

    uid = write_enhanced(tmp_path / "frames.dcm", STORED, AXIAL, "MR", change)
    series = {one.part: one for one in find_series(tmp_path).series}
    assert len(series) == 2
    assert series[part].path == f"{tmp_path}::{uid}_{part.replace(' ', '_')}"
    np.testing.assert_array_equal(read_series(series[part].path).read(), STORED[:, :, 12:])


def test_a_single_slice_alone_is_a_volume_of_its_thickness(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED[:, :, :1], AXIAL)
    series = find_series(tmp_path).series[0]
    np.testing.assert_array_equal(series.read(), HU[:, :, :1])
    np.testing.assert_allclose(series.affine, AXIAL, atol=1e-5)


def test_a_single_slice_is_passed_over_only_beside_a_volume_of_its_study(tmp_path: Path) -> None:
    volume = write_slices(tmp_path / "a" / "ct", STORED, AXIAL)
    study = pydicom.dcmread(tmp_path / "a" / "ct" / "000001.dcm").StudyInstanceUID
    write_slices(tmp_path / "a" / "scout", STORED[:, :, :1], AXIAL, setting(StudyInstanceUID=study))
    single = write_slices(tmp_path / "b", STORED[:, :, :1], AXIAL)
    write_slices(tmp_path / "c", STORED[:, :, :1], AXIAL, setting(SliceThickness=None))
    write_slices(tmp_path / "d", STORED[:, :, :2], AXIAL, setting(StudyInstanceUID=""))
    write_slices(tmp_path / "d", STORED[:, :, :1], AXIAL, setting(StudyInstanceUID=""))
    other = write_slices(tmp_path / "e", STORED[:, :, :1], AXIAL, setting(StudyInstanceUID=study, PatientID="P8"))
    found = find_series(tmp_path)
    places = {series.uid: Path(series.path).name for series in found.series}
    assert places.pop(volume) == "ct"
    assert places.pop(single) == "b"
    assert places.pop(other) == "e"
    assert list(places.values()) == ["d"]
    assert [(path, "without SliceThickness" in reason) for path, reason in found.failures] == [(f"{tmp_path}/c", True)]
    assert found.notes == [f"passed over 2 x single slice, first {tmp_path}/a/scout/000001.dcm"]
    for series in found.series:
        np.testing.assert_array_equal(read_series(series.path).read(), HU[:, :, : series.shape[2]])


def test_a_single_slice_of_unknown_thickness_is_named(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED[:, :, :1], AXIAL, setting(SliceThickness=None))
    with pytest.raises(ValueError, match=r"000001\.dcm is a single slice without SliceThickness"):
        read_series(tmp_path)


def test_the_units_of_ct_and_pet_hold_whatever_is_shown_as_white(tmp_path: Path) -> None:
    for modality, expected in (("CT", HU), ("PT", STORED)):
        write_slices(tmp_path / modality, STORED, AXIAL, setting(PhotometricInterpretation="MONOCHROME1"), modality)
        np.testing.assert_array_equal(read_series(tmp_path / modality).read(), expected)


@pytest.mark.parametrize("low", [0, -1000])
def test_what_is_bright_in_an_inverted_mr_is_high_as_simpleitk_has_it(tmp_path: Path, low: int) -> None:
    write_slices(tmp_path, STORED + low, AXIAL, setting(PhotometricInterpretation="MONOCHROME1"), "MR")
    series = read_series(tmp_path)
    assert np.corrcoef(series.read().ravel(), STORED.ravel())[0, 1] == pytest.approx(-1)
    assert_as_simpleitk_reads(series)


SIGNED = STORED - 1000


def in_bits(bits: int, high: int) -> Change:
    """Return a change to values of fewer bits, whose neighbours in the 16 hold something else."""

    def change(header: Dataset, k: int) -> None:
        values = np.frombuffer(header.PixelData, "<i2").astype(np.uint16)
        junk = np.uint16(~(((1 << bits) - 1) << (high + 1 - bits)) & 0xFFFF)
        header.PixelData = (((values & ((1 << bits) - 1)) << (high + 1 - bits)) | junk).tobytes()
        header.BitsStored, header.HighBit = bits, high

    return change


@pytest.mark.parametrize(("bits", "high"), [(12, 11), (12, 15), (13, 13)])
@pytest.mark.parametrize("stored", [STORED, SIGNED], ids=["unsigned", "signed"])
def test_bits_beside_the_value_do_not_count(tmp_path: Path, stored: np.ndarray, bits: int, high: int) -> None:
    write_slices(tmp_path, stored, AXIAL, in_bits(bits, high))
    np.testing.assert_array_equal(read_series(tmp_path).read(), stored - 1024)


def pack(folder: Path, kind: str) -> None:
    """Compress the files of a folder without loss by a writer that is not ours."""
    for file in sorted(folder.iterdir()):
        header = pydicom.dcmread(file)
        if kind == "RLE":
            header.compress(RLELossless)
            header.save_as(file)
            continue
        image = itk.imread(str(file), itk.SS)
        writer = itk.GDCMImageIO.New(KeepOriginalUID=True)
        writer.SetCompressor(kind)
        itk.ImageFileWriter.New(Input=image, ImageIO=writer, FileName=str(file), UseCompression=True).Update()


@pytest.mark.parametrize("kind", ["RLE", "JPEG", "JPEG2000"])
@pytest.mark.parametrize("stored", [STORED, SIGNED], ids=["unsigned", "signed"])
def test_compressed_slices_have_the_values_that_simpleitk_reads(tmp_path: Path, kind: str, stored: np.ndarray) -> None:
    write_slices(tmp_path, stored[:, :, :3], AXIAL)
    plain = read_series(tmp_path)
    expected = plain.read()
    pack(tmp_path, kind)
    series = read_series(tmp_path)
    assert pydicom.dcmread(series.files[0]).file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(series.read(), expected)
    assert_as_simpleitk_reads(series)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_other_transfer_syntaxes_have_the_values_that_simpleitk_reads(tmp_path: Path, syntax: str) -> None:
    write_slices(tmp_path, SIGNED[:, :, :3], AXIAL, syntax=syntax)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.read(), SIGNED[:, :, :3] - 1024)
    assert_as_simpleitk_reads(series)


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"])
def test_a_real_slice_is_the_same_in_each_compression(tmp_path: Path, name: str) -> None:
    voxels = []
    for one in ("MR_small", name):
        (tmp_path / one).mkdir()
        shutil.copy(get_testdata_file(f"{one}.dcm", download=False), tmp_path / one)
        voxels.append(read_series(tmp_path / one).read())
    np.testing.assert_array_equal(*voxels)
    np.testing.assert_array_equal(voxels[0][:, :, 0].T, pydicom.dcmread(tmp_path / "MR_small/MR_small.dcm").pixel_array)


def test_threads_read_compressed_slices_at_once_and_leave_warnings_as_they_were(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED[:, :, :6], AXIAL)
    pack(tmp_path, "RLE")
    series, filters = read_series(tmp_path), list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for voxels in pool.map(lambda _: series.read(), range(24)):
            np.testing.assert_array_equal(voxels, HU[:, :, :6])
    assert warnings.filters == filters


def test_another_process_can_read_a_series_that_it_is_given(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED, AXIAL)
    content = pickle.dumps(read_series(tmp_path))
    np.testing.assert_array_equal(pickle.loads(content).read(), HU)


def test_compressed_frames_have_a_slope_each(tmp_path: Path) -> None:
    def change(group: Dataset, k: int) -> None:
        group.PixelValueTransformationSequence[0].RescaleSlope = 1 + k

    write_enhanced(tmp_path / "frames.dcm", STORED, AXIAL, "CT", change)
    pack(tmp_path, "RLE")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.read(), STORED * (1 + np.arange(24)) - 1024)
    np.testing.assert_array_equal(series.read((slice(1, 3), slice(2, 4), slice(5, 9))), series.read()[1:3, 2:4, 5:9])


def test_compressed_slices_that_are_cut_off_are_named(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED[:, :, :3], AXIAL)
    pack(tmp_path, "RLE")
    file = tmp_path / "000002.dcm"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"000002\.dcm is cut off"):
        read_series(tmp_path)


def test_the_whole_range_of_16_bits_is_read(tmp_path: Path) -> None:
    stored = np.linspace(0, 65535, 10 * 8 * 2).round().astype(int).reshape(10, 8, 2)
    write_slices(tmp_path / "unsigned", stored, AXIAL)
    write_slices(tmp_path / "signed", stored - 32768, AXIAL)
    np.testing.assert_array_equal(read_series(tmp_path / "unsigned").read(), stored - 1024)
    np.testing.assert_array_equal(read_series(tmp_path / "signed").read(), stored - 32768 - 1024)


def test_a_box_is_read_from_no_more_files_than_it_takes(tmp_path: Path) -> None:
    write_slices(tmp_path, STORED, AXIAL)
    series = read_series(tmp_path)
    for file in series.files[:5] + series.files[8:]:
        file.unlink()
    np.testing.assert_array_equal(series.read((slice(1, 6), slice(2, 8), slice(5, 8))), HU[1:6, 2:8, 5:8])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "is a mosaic of slices"),
        (setting(ModalityLUTSequence=[Dataset()]), "by a table"),
        (setting(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "repair its header"),
        (setting(PixelSpacing=[0, 1]), "repair its header"),
    ],
    ids=["mosaic", "table", "orientation", "spacing"],
)
def test_a_slice_that_cannot_be_placed_or_valued_is_named(tmp_path: Path, change: Change, message: str) -> None:
    write_slices(tmp_path, STORED[:, :, :3], AXIAL, change)
    with pytest.raises(ValueError, match=rf"00000\d\.dcm .*{message}"):
        read_series(tmp_path)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_results_are_not_named_after_the_patient_nor_outside_their_folder(tmp_path: Path) -> None:
    write_slices(tmp_path / "Doe^Jane", STORED[:, :, :3], AXIAL, setting(SeriesInstanceUID="../1.2 3"))
    name = find_series(tmp_path).series[0].name
    assert name == "_1.2_3"
