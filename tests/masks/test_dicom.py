"""DICOM results are read back by programs that none of us wrote."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine
from pydicom.uid import UID
from skimage.measure import grid_points_in_poly

from med3d_components.data.dicom import read_series
from med3d_components.masks import write_mask
from med3d_components.masks.dicom_headers import SHARED_UIDS
from med3d_components.masks.outlines import outlines
from tests.data.dicom_files import write_enhanced, write_slices
from tests.masks.shapes import CLASSES, SHAPE, nested_mask, oblique_affine, upright_affine, write_scan

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ANONYMISED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate"),
    *("StudyTime", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID"),
)


def segmented(tmp_path: Path, formats: str, oblique: bool = True, empty: bool = False, **tags: Any) -> Path:
    scan = write_scan(tmp_path / "scan", oblique_affine() if oblique else upright_affine(), **tags)
    (file,) = write_mask(nested_mask() * (not empty), scan, tmp_path / "scan_seg", CLASSES, formats)
    return file


def placed(
    voxels: np.ndarray, to_ras: np.ndarray, affine: np.ndarray | None = None, shape: tuple[int, ...] = SHAPE
) -> np.ndarray:
    """Return voxels on the grid of the scan, from another order or part of them, after a check that they lie on it."""
    affine = oblique_affine() if affine is None else affine
    indices = np.argwhere(voxels)
    there = apply_affine(np.linalg.inv(affine) @ to_ras, indices)
    assert np.abs(apply_affine(affine, np.rint(there) - there) - affine[:3, 3]).max() < 0.01
    grid = np.zeros(shape, voxels.dtype)
    grid[tuple(np.rint(there).astype(int).T)] = voxels[tuple(indices.T)]
    return grid


@pytest.mark.parametrize("without", [(), ANONYMISED])
def test_highdicom_reads_a_seg_with_the_voxels_and_place_of_the_mask(tmp_path: Path, without: tuple[str, ...]) -> None:
    hd = pytest.importorskip("highdicom")
    file = segmented(tmp_path, "dicom-seg", without=without)
    seg = hd.seg.segread(file)
    volume = seg.get_volume(combine_segments=True)
    assert np.array_equal(placed(volume.array, LPS @ volume.affine), nested_mask())
    lung, tumour = (seg.get_segment_description(number) for number in (1, 2))
    assert [lung.segment_label, tumour.segment_label] == CLASSES[1:]
    assert (lung.segmented_property_type.meaning, tumour.segmented_property_type.meaning) == ("Lung", "Neoplasm")
    series = read_series(tmp_path / "scan")
    assert {instance for *_, instance in seg.get_source_image_uids()} == set(series.instance_uids)
    header = pydicom.dcmread(series.files[0])
    assert seg.StudyInstanceUID
    for keyword in ANONYMISED:
        assert without or seg[keyword].value == header[keyword].value


def check_by_dcmqi(file: Path, folder: Path) -> None:
    program = shutil.which("segimage2itkimage", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("dcmqi is not installed, whose segimage2itkimage reads DICOM SEG")
    folder.mkdir()
    command = [program, "--inputDICOM", file, "--outputDirectory", folder, "-t", "nii"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    for value in (1, 2):
        image = nib.load(folder / f"{value}.nii.gz")
        assert np.array_equal(placed(np.asarray(image.dataobj) > 0, image.affine), nested_mask() == value)


def test_dcmqi_reads_a_seg_with_the_voxels_place_and_names_of_the_mask(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    file = segmented(tmp_path, "dicom-seg", without=ANONYMISED)
    check_by_dcmqi(file, tmp_path / "read")
    meta = (tmp_path / "read" / "meta.json").read_text(encoding="utf-8")
    for text in ("left lung", "liver tumour", "[ 230, 159, 0 ]", "7771000"):
        assert text in meta


INVALID: dict[str, dict[str, str | list[str]]] = {
    **{f"born {value}": {"PatientBirthDate": value} for value in ("19700000", "1970-01-01", "ANON")},
    "dates and times": {"StudyDate": "2020-01-01", "StudyTime": "12:30:00", "SeriesDate": "2020-01-01"},
    "a 30th of February": {"StudyDate": "20230230", "AcquisitionDate": "x"},
    "sex and age": {"PatientSex": "W", "PatientAge": "45"},
    "two for one": {"PatientID": ["P7", "P8"], "PatientName": ["A", "B"], "StudyDate": ["20200101", "20200102"]},
    "too long": {"PatientID": "7" * 65, "PatientName": "D" * 65, "AccessionNumber": "7" * 17, "StudyID": "7" * 17},
    **{f"UIDs {uid[:9]}": dict.fromkeys(SHARED_UIDS, uid) for uid in ("1.2.03", "1.234567" * 9, "anonymous")},
    "character set": {"SpecificCharacterSet": "ISO_IR 999"},
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
@pytest.mark.parametrize("kind", INVALID)
def test_what_dicom_does_not_allow_is_left_out_and_a_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    hd = pytest.importorskip("highdicom")
    scan = write_scan(tmp_path / "scan", oblique_affine())
    for file in scan.iterdir():
        header = pydicom.dcmread(file)
        with pydicom.config.disable_value_validation():
            for keyword, value in INVALID[kind].items():
                setattr(header, keyword, value)
            header.save_as(file)
    files = write_mask(nested_mask(), scan, tmp_path / "scan_seg", CLASSES, ["dicom-seg", "rtstruct"])
    volume = hd.seg.segread(files[0]).get_volume(combine_segments=True)
    assert np.array_equal(placed(volume.array, LPS @ volume.affine), nested_mask())
    seg, rtstruct = (pydicom.dcmread(file) for file in files)
    for keyword, value in INVALID[kind].items():
        assert re.search(f"scan: DICOM does not allow its .*{keyword}.*, left out", caplog.text)
        for found in (seg, rtstruct):
            assert found.get(keyword) != value
        if keyword in SHARED_UIDS:
            assert seg[keyword].value == rtstruct[keyword].value
            assert UID(seg[keyword].value).is_valid
        elif keyword != "SeriesDate":  # a structure set has one of its own
            assert not seg.get(keyword)
            assert not rtstruct.get(keyword)
    check_by_dcmqi(files[0], tmp_path / "read")


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("", "M\u00fcller^J\u00f6rg".encode("latin-1")),
        ("", "M\u00fcller^J\u00f6rg".encode()),
        ("ISO_IR 192", "M\u00fcller^J\u00f6rg".encode()),
        ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
    ],
)
def test_a_name_has_the_bytes_that_it_has_in_the_scan(tmp_path: Path, character_set: str, name: bytes) -> None:
    hd = pytest.importorskip("highdicom")
    scan = write_scan(tmp_path / "scan", oblique_affine())
    for file in scan.iterdir():
        header = pydicom.dcmread(file)
        header.SpecificCharacterSet = character_set
        header.PatientName = "N" * len(name)
        header.save_as(file)
        file.write_bytes(file.read_bytes().replace(b"N" * len(name), name))
    files = write_mask(nested_mask(), scan, tmp_path / "scan_seg", CLASSES, ["dicom-seg", "rtstruct"])
    assert hd.seg.segread(files[0]).PatientName == pydicom.dcmread(file).PatientName != "N" * len(name)
    for result in files:
        assert name in result.read_bytes()
        assert (pydicom.dcmread(result).get("SpecificCharacterSet") or "") == (header.SpecificCharacterSet or "")


@pytest.mark.parametrize("missing", ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "preamble"])
def test_a_series_that_lacks_what_names_its_images_has_dicom_results(tmp_path: Path, missing: str) -> None:
    hd = pytest.importorskip("highdicom")
    scan = write_scan(tmp_path / "scan", oblique_affine())
    for file in scan.iterdir():
        content, header = file.read_bytes(), pydicom.dcmread(file)
        if missing == "preamble":
            file.write_bytes(content[132 + 12 + header.file_meta.FileMetaInformationGroupLength :])
        else:
            delattr(header, missing)
            if missing == "SOPInstanceUID":
                del header.file_meta.MediaStorageSOPInstanceUID
            header.save_as(file)
    files = write_mask(nested_mask(), scan, tmp_path / "scan_seg", CLASSES, ["dicom-seg", "rtstruct"])
    seg, rtstruct = hd.seg.segread(files[0]), pydicom.dcmread(files[1])
    volume = seg.get_volume(combine_segments=True)
    assert np.array_equal(placed(volume.array, LPS @ volume.affine), nested_mask())
    (study,) = rtstruct.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    uids = {image.ReferencedSOPInstanceUID for image in series.ContourImageSequence}
    assert len(uids) == SHAPE[2]
    assert {uid for *_, uid in seg.get_source_image_uids()} == uids
    assert all(UID(uid).is_valid for uid in uids)
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == series.SeriesInstanceUID
    check_by_dcmqi(files[0], tmp_path / "read")


def test_images_of_a_private_class_are_refused_in_one_line_that_names_the_format(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    scan = write_scan(tmp_path / "scan", oblique_affine())
    for file in scan.iterdir():
        header = pydicom.dcmread(file)
        header.SOPClassUID = "1.2.840.113619.4.2"
        header.save_as(file)
    with pytest.raises(ValueError, match=r"^.*scan cannot be written as dicom-seg, .*; choose other formats\.$"):
        write_mask(nested_mask(), scan, tmp_path / "scan_seg", CLASSES, ["nii.gz", "dicom-seg"])
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


@pytest.mark.parametrize("formats", ["dicom-seg", "rtstruct"])
def test_where_nothing_was_found_an_object_says_so(tmp_path: Path, formats: str) -> None:
    if formats == "dicom-seg":
        pytest.importorskip("highdicom")
    found = pydicom.dcmread(segmented(tmp_path, formats, empty=True))
    if formats == "dicom-seg":
        assert [segment.SegmentLabel for segment in found.SegmentSequence] == CLASSES[1:]
        assert not found.pixel_array.any()
    else:
        assert [roi.ROIName for roi in found.StructureSetROISequence] == CLASSES[1:]
        assert not any(roi.get("ContourSequence") for roi in found.ROIContourSequence)


def read_by_plastimatch(file: Path, scan: Path, folder: Path) -> list[np.ndarray]:
    sitk = pytest.importorskip("SimpleITK")
    if shutil.which("plastimatch") is None:
        pytest.skip("plastimatch is not installed, which reads RTSTRUCT (apt install plastimatch)")
    command = ["plastimatch", "convert", "--input", file, "--referenced-ct", scan, "--output-prefix", folder]
    command += ["--output-cxt", folder / "contours.cxt", "--prefix-format", "nrrd"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nrrd"))).T > 0 for name in CLASSES[1:]]


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("without", [(), ANONYMISED])
def test_plastimatch_reads_a_structure_set_with_the_voxels_and_holes_of_the_mask(
    tmp_path: Path, oblique: bool, without: tuple[str, ...]
) -> None:
    file = segmented(tmp_path, "rtstruct", oblique, without=without)
    read = read_by_plastimatch(file, tmp_path / "scan", tmp_path / "read")
    for value, found in enumerate(read, start=1):
        truth = nested_mask() == value
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) >= 0.99
    assert not read[0][14, 15 + 3, 12]  # in a hole
    assert read[0][14, 15, 12]  # on the island in it
    assert not read[0][24, 15, 12]
    assert read[1][24, 15, 12]

    affine = oblique_affine() if oblique else upright_affine()
    planes = []
    for line in (tmp_path / "read" / "contours.cxt").read_text().split("END_OF_ROI_NAMES\n")[1].splitlines():
        points = np.array(line.split("|")[-1].split("\\"), float).reshape(-1, 3)
        planes.append(apply_affine(np.linalg.inv(affine) @ LPS, points)[:, 2])
    planes = np.concatenate(planes)
    assert np.abs(planes - np.rint(planes)).max() * 2.5 < 0.01
    assert set(np.rint(planes)) == set(np.flatnonzero(nested_mask().any(axis=(0, 1))))


def test_each_contour_names_the_slice_that_it_lies_on(tmp_path: Path) -> None:
    found = pydicom.dcmread(segmented(tmp_path, "rtstruct"))
    series = read_series(tmp_path / "scan")
    for roi in found.ROIContourSequence:
        for contour in roi.ContourSequence:
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            k = apply_affine(np.linalg.inv(series.affine) @ LPS, points)[:, 2].mean()
            assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID == series.instance_uids[round(k)]
            assert contour.NumberOfContourPoints == len(points)
            assert all(len(str(value)) <= 16 for value in contour.ContourData)


def frames_out_of_order(folder: Path) -> None:
    order = np.random.default_rng(0).permutation(SHAPE[2])

    def move(group: pydicom.Dataset, k: int) -> None:
        place = apply_affine(LPS @ oblique_affine(), (0, 0, order[k]))
        group.PlanePositionSequence[0].ImagePositionPatient = place.round(6).tolist()

    write_enhanced(folder / "frames.dcm", np.zeros(SHAPE, np.int16), oblique_affine(), "MR", move)


def tilted_slices(folder: Path) -> None:
    for k in range(SHAPE[2]):
        affine = upright_affine()
        affine[1:3, 3] += (0.4 * k, 2.5 * k)
        write_slices(folder, np.zeros((*SHAPE[:2], 1), np.int16), affine, uid="1.2.3")


def one_slice(folder: Path) -> None:
    write_slices(folder, np.zeros((*SHAPE[:2], 1), np.int16), oblique_affine())


@pytest.mark.parametrize("write", [frames_out_of_order, tilted_slices, one_slice])
def test_every_format_has_the_grid_on_which_a_series_is_read(tmp_path: Path, write: Callable[[Path], None]) -> None:
    hd, slicerio = (pytest.importorskip(name) for name in ("highdicom", "slicerio"))
    write(tmp_path / "scan")
    resample = write is tilted_slices
    series = read_series(tmp_path / "scan", resample)
    mask = np.zeros(series.shape, np.uint8)
    part = nested_mask()[:, :, 12 : 12 + series.shape[2]] if series.shape[2] == 1 else nested_mask()
    mask[: SHAPE[0], : SHAPE[1]] = part
    formats = ["nii.gz", "seg.nrrd", "dicom-seg", "rtstruct"]
    files = write_mask(mask, tmp_path / "scan", tmp_path / "scan_seg", CLASSES, formats, resample=resample)
    nifti, nrrd = nib.load(files[0]), slicerio.read_segmentation(files[1])
    assert np.array_equal(nifti.dataobj, mask)
    assert np.allclose(nifti.affine, series.affine, atol=1e-4)
    assert np.array_equal(nrrd["voxels"], mask)
    assert np.allclose(LPS @ nrrd["ijkToLPS"], series.affine)
    volume = hd.seg.segread(files[2]).get_volume(combine_segments=True)
    assert np.array_equal(placed(volume.array, LPS @ volume.affine, series.affine, series.shape), mask)
    for roi in pydicom.dcmread(files[3]).ROIContourSequence:
        for contour in roi.ContourSequence:
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            planes = apply_affine(np.linalg.inv(series.affine) @ LPS, points)[:, 2]
            assert np.ptp(planes) * 2.5 < 0.01
            frame = series.frames[round(planes.mean())]
            references = contour.get("ContourImageSequence", [])
            assert len(references) == (not resample)
            for reference in references:
                assert reference.ReferencedSOPInstanceUID == frame.instance_uid
                assert reference.get("ReferencedFrameNumber", 1) == frame.number + 1


@pytest.mark.parametrize("density", [0.3, 0.5, 0.8])
def test_the_outlines_of_any_region_hold_its_voxels_and_no_others(density: float) -> None:
    region = np.random.default_rng(0).random((24, 30)) < density
    polygons = outlines(region)
    inside = sum(grid_points_in_poly(region.shape, line, binarize=False) == 1 for line in polygons)
    on_a_line = sum(grid_points_in_poly(region.shape, line, binarize=False) > 1 for line in polygons) > 0
    assert np.array_equal((inside % 2 == 1) | on_a_line, region | on_a_line)
    assert on_a_line.mean() < 0.1
