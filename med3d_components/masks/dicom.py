"""DICOM SEG and RTSTRUCT objects for a scan that is itself a DICOM series."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VM
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from pydicom.valuerep import DA, STR_VR, TM, validate_value
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree
from skimage.color import rgb2lab
from skimage.measure import find_contours, points_in_poly

from med3d_components import __version__
from med3d_components.data.dicom import DicomSeries, read_series
from med3d_components.data.dicom_files import quiet
from med3d_components.masks.classes import Code, MaskClass
from med3d_components.masks.nifti import check_grid
from med3d_components.utils import atomic_path

__all__ = ["check_highdicom", "write_dicom_seg", "write_rtstruct"]

logger = logging.getLogger(__name__)

MAKER = "med3d_components"
IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""What every object must say of its patient and study, be it nothing."""
SHARED_UIDS = {"StudyInstanceUID": "study", "FrameOfReferenceUID": "frame of reference"}
"""UIDs that a result shares with its scan, and what they are made of where the scan has none."""
IMAGE_GROUPS = (0x0018, 0x0020, 0x0028, 0x5200)
"""Groups of tags that say of an image what is the reader's to judge."""


def check_highdicom() -> None:
    """Check that the library that DICOM SEG needs is there.

    Raises:
        ModuleNotFoundError: if it is not.
    """
    if find_spec("highdicom") is None:
        raise ModuleNotFoundError(
            'The format dicom-seg needs highdicom; install it with pip install "med3d-components[dicom]", '
            "or choose nii.gz, seg.nrrd or rtstruct."
        )


def write_dicom_seg(
    path: Path,
    mask: NDArray[Any],
    scan_path: str | os.PathLike[str],
    classes: Sequence[MaskClass],
    resample: bool = False,
) -> None:
    """Write a mask as a DICOM Segmentation, atomically: binary, a segment per class, with codes and colours.

    Patient and study are those of the scan; what an anonymised series lacks of them, or DICOM does not allow, stays
    empty, or is made from its UID, so that all results of a series lie in one study.

    Args:
        path: to write.
        mask: (x, y, z), in unsigned integers, on the grid of the scan.
        scan_path: of the series, as :func:`read_series` takes it.
        classes: of the mask, without the background.
        resample: whether the series was resampled as it was read.

    Raises:
        ModuleNotFoundError: without highdicom.
        ValueError: if the scan is no DICOM series or highdicom cannot refer to it, or the mask has not its voxels.
    """
    check_highdicom()
    import highdicom as hd

    series = _read_series(scan_path, mask, resample)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ series.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=MAKER, version=__version__, family=hd.sr.CodedConcept("123109", "DCM", "Artificial Intelligence")
    )
    headers = _headers(series)
    build = partial(
        hd.seg.Segmentation,
        source_images=headers,
        pixel_array=np.ascontiguousarray(mask.T),
        segmentation_type="BINARY",
        segment_descriptions=[_segment(each, algorithm) for each in classes],
        series_instance_uid=generate_uid(),
        series_number=1000,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        # Of the volume as it was read, which need not have one plane per file.
        pixel_measures=hd.PixelMeasuresSequence(spacing[[1, 0]].tolist(), float(spacing[2]), float(spacing[2])),
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", (lps[:3, :2] / spacing[:2]).T.ravel().tolist()),
        plane_positions=[
            hd.PlanePositionSequence("PATIENT", apply_affine(lps, (0, 0, k)).tolist()) for k in range(mask.shape[2])
        ],
        omit_empty_frames=bool(mask.any()),
        specific_character_set=None,
    )
    try:
        seg = build()
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise ValueError(
            f"{scan_path} cannot be written as dicom-seg, since highdicom cannot refer to its images "
            f"({type(e).__name__}: {e}); choose other formats."
        ) from e
    if "SpecificCharacterSet" in headers[0]:  # highdicom refuses some that the standard allows, as those of Japan
        seg.SpecificCharacterSet = headers[0].SpecificCharacterSet
    seg.ContentCreatorName = ""  # which the standard wants to be there, and highdicom leaves out
    with atomic_path(path) as temporary:
        seg.save_as(temporary)


def write_rtstruct(
    path: Path,
    mask: NDArray[Any],
    scan_path: str | os.PathLike[str],
    classes: Sequence[MaskClass],
    resample: bool = False,
) -> None:
    """Write a mask as a DICOM RT Structure Set, atomically: a structure per class, contours on the planes of the scan.

    Contours run halfway between the voxels of the class and the others. A hole is joined to the contour around it by
    a line there and back, the keyhole of the DICOM standard, which readers understand that would fill a contour of
    its own.

    Args:
        path: to write.
        mask: (x, y, z), in unsigned integers, on the grid of the scan.
        scan_path: of the series, as :func:`read_series` takes it.
        classes: of the mask, without the background.
        resample: whether the series was resampled as it was read.

    Raises:
        ValueError: if the scan is no DICOM series, or the mask has not its voxels.
    """
    series = _read_series(scan_path, mask, resample)
    headers = _headers(series)
    frame = headers[0].FrameOfReferenceUID
    rtstruct = _new_object(path, headers[0])
    references = {file: _reference(header) for file, header in zip(series.files, headers, strict=True)}
    planes = [_plane_reference(references, series, k) for k in range(mask.shape[2])]
    rtstruct.update(
        _dataset(
            StructureSetLabel=MAKER,
            StructureSetDate=rtstruct.SeriesDate,
            StructureSetTime=rtstruct.SeriesTime,
            ApprovalStatus="UNAPPROVED",
            ReferencedFrameOfReferenceSequence=[_frame_of_reference(headers[0], list(references.values()))],
            StructureSetROISequence=[
                _dataset(
                    ROINumber=each.value,
                    ReferencedFrameOfReferenceUID=frame,
                    ROIName=each.name,
                    ROIGenerationAlgorithm="AUTOMATIC",
                )
                for each in classes
            ],
            ROIContourSequence=[
                _dataset(
                    ReferencedROINumber=each.value,
                    ROIDisplayColor=list(each.color),
                    ContourSequence=_contours(mask, each.value, series.affine, planes),
                )
                for each in classes
            ],
            RTROIObservationsSequence=[
                _dataset(
                    ObservationNumber=each.value,
                    ReferencedROINumber=each.value,
                    RTROIInterpretedType="",
                    ROIInterpreter="",
                )
                for each in classes
            ],
        )
    )
    with atomic_path(path) as temporary:
        rtstruct.save_as(temporary)


def _read_series(scan_path: str | os.PathLike[str], mask: NDArray[Any], resample: bool) -> DicomSeries:
    if Path(scan_path).is_file():
        raise ValueError(
            f"{scan_path} is no DICOM series, which the formats dicom-seg and rtstruct need; choose nii.gz or seg.nrrd."
        )
    series = read_series(scan_path, resample)
    check_grid(mask.shape, series.shape, scan_path)
    return series


def _headers(series: DicomSeries) -> list[Dataset]:
    """Read the headers of a series' files, and give each what the standard demands.

    An anonymised series may lack it, and old scanners and programs write what is not allowed.
    """
    source = series.uid or series.frames[0].instance_uid or str(series.folder.absolute())
    with quiet():
        headers: list[Dataset] = [pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in series.files]
        first = headers[0]
        invalid = [keyword for keyword in first.dir() if not _is_valid(first, keyword)]
        for keyword in invalid:
            del first[keyword]
        for keyword in IDENTITY:
            if not first.get(keyword):
                setattr(first, keyword, "")
        shared = {keyword: first.get(keyword) or _made_uid(source, text) for keyword, text in SHARED_UIDS.items()}
        shared["SeriesInstanceUID"] = series.uid or _made_uid(source, "series")
        for number, header in enumerate(headers):
            for keyword, uid in shared.items():  # some give each slice a study of its own
                setattr(header, keyword, uid)
            for keyword in ("SOPClassUID", "SOPInstanceUID"):
                given = header.get(keyword) or header.file_meta.get(f"MediaStorage{keyword}")
                setattr(header, keyword, given or _made_uid(source, f"image {number}"))
    if invalid:
        logger.warning(
            "%s: DICOM does not allow its %s, left out of its DICOM results.", series.path, ", ".join(invalid)
        )
    return headers


def _made_uid(source: str, text: str) -> str:
    return str(generate_uid(entropy_srcs=[source, text]))


def _is_valid(header: Dataset, keyword: str) -> bool:
    """Tell whether DICOM allows the value of a tag, among those of the patient, the study and their UIDs."""
    try:
        element = header[keyword]
        values = list(element.value) if isinstance(element.value, MultiValue) else [element.value]
        if keyword not in (*IDENTITY, *SHARED_UIDS) and (element.tag.group in IMAGE_GROUPS or element.VR == "UI"):
            return True
        for text in [str(value) for value in values if value is not None and element.VR in STR_VR]:
            validate_value(element.VR, text, pydicom.config.RAISE)
            {"DA": DA, "TM": TM}.get(element.VR, str)(text)  # which find a 30th of February
    except (NotImplementedError, OverflowError, TypeError, ValueError):
        return False
    allowed = {"PatientSex": ("", "M", "F", "O"), "SpecificCharacterSet": python_encoding}.get(keyword, values)
    return all(value is None or value in allowed for value in values) and (
        len(values) < 2 or dictionary_VM(element.tag) != "1"
    )


def _segment(each: MaskClass, algorithm: Any) -> Any:
    import highdicom as hd

    lightness, a, b = rgb2lab(np.array(each.color) / 255).tolist()
    segment = hd.seg.SegmentDescription(
        segment_number=each.value,
        segment_label=each.name[:64],  # the longest text of its kind
        segmented_property_category=_concept(each.category),
        segmented_property_type=_concept(each.code),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor(lightness, a, b),
    )
    if each.side:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(each.side)]
    return segment


def _concept(code: Code) -> Any:
    import highdicom as hd

    return hd.sr.CodedConcept(code.value, "SCT", code.meaning)


def _new_object(path: Path, header: Dataset) -> FileDataset:
    """Return an empty structure set in a new series of the scan's study."""
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # computed where it is there
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    # The lengths of explicit types end at 64 KiB, which is too short for the contour of a lung.
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    new = FileDataset(path, {}, b"\0" * 128, meta, is_implicit_VR=True, is_little_endian=True)
    for keyword in (*IDENTITY, "StudyInstanceUID", "StudyDescription", "FrameOfReferenceUID", "SpecificCharacterSet"):
        if keyword in header:
            setattr(new, keyword, header[keyword].value)
    now = datetime.datetime.now()
    new.update(
        _dataset(
            SOPClassUID=meta.MediaStorageSOPClassUID,
            SOPInstanceUID=meta.MediaStorageSOPInstanceUID,
            SeriesInstanceUID=generate_uid(),
            SeriesNumber=1001,
            SeriesDate=now.strftime("%Y%m%d"),
            SeriesTime=now.strftime("%H%M%S"),
            Modality="RTSTRUCT",
            Manufacturer=MAKER,
            ManufacturerModelName=MAKER,
            SoftwareVersions=__version__,
            OperatorsName="",
            PositionReferenceIndicator="",
        )
    )
    return new


def _frame_of_reference(header: Dataset, references: list[Dataset]) -> Dataset:
    series = _dataset(SeriesInstanceUID=header.SeriesInstanceUID, ContourImageSequence=references)
    study = _dataset(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",  # Detached Study Management, as the standard keeps it here
        ReferencedSOPInstanceUID=header.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _dataset(FrameOfReferenceUID=header.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _reference(header: Dataset) -> Dataset:
    return _dataset(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


def _plane_reference(references: Mapping[Path, Dataset], series: DicomSeries, k: int) -> list[Dataset]:
    """Return what a contour says of the image that it lies on: nothing where planes were resampled."""
    if series.grid is not None:
        return []
    reference, frame = Dataset(), series.frames[k]
    reference.update(references[frame.file])
    if len(series.files) < len(series.frames):
        reference.ReferencedFrameNumber = frame.number + 1
    return [reference]


def _dataset(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _contours(
    mask: NDArray[Any], value: int, affine: NDArray[np.float64], planes: Sequence[list[Dataset]]
) -> list[Dataset]:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    found = []
    part = mask == value
    rows, columns, slices = next(iter(find_objects(part.view(np.uint8))), (slice(0, 0),) * 3)
    for k in range(slices.start, slices.stop):
        for polygon in _polygons(part[rows, columns, k]):
            voxels = np.column_stack([np.add(polygon, (rows.start, columns.start)), np.full(len(polygon), k)])
            points = apply_affine(lps, voxels)
            found.append(
                _dataset(
                    ContourImageSequence=planes[k],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{x:.4f}" for x in points.ravel().tolist()],
                )
            )
    return found


def _polygons(region: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the outlines (points, 2) of a region in voxels, each with its holes joined to it, not closed."""
    padded = np.pad(region, 1).astype(np.float32)  # a margin closes what touches the border
    lines = [line[:-1] - 1 for line in find_contours(padded, 0.5, positive_orientation="high")]
    areas = [_area(line) for line in lines]
    outer = [_without_straight(line) for line, area in zip(lines, areas, strict=True) if area > 0]
    size = [_area(line) for line in outer]
    holes = [_without_straight(line) for line, area in zip(lines, areas, strict=True) if area < 0]
    around = [[i for i, line in enumerate(outer) if points_in_poly(hole[:1], line)[0]] for hole in holes]
    homes = [min(candidates, key=size.__getitem__) for candidates in around]
    distances = [cKDTree(outer[home]).query(hole)[0].min() for hole, home in zip(holes, homes, strict=True)]
    for index in np.argsort(distances).tolist():  # the nearest first, so that no line crosses a hole on its way
        outer[homes[index]] = _join(outer[homes[index]], holes[index])
    return outer


def _area(line: NDArray[np.float64]) -> float:
    """Return the signed area of a polygon."""
    x, y = line.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _without_straight(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drop points that lie on the line between their neighbours."""
    before, after = line - np.roll(line, 1, axis=0), np.roll(line, -1, axis=0) - line
    return line[np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9]


def _join(line: NDArray[np.float64], hole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Join a hole to the line around it where the two are nearest."""
    distances, nearest = cKDTree(line).query(hole)
    start = int(distances.argmin())
    end = int(nearest[start])
    hole = np.roll(hole, -start, axis=0)
    return np.concatenate([line[: end + 1], hole, hole[:1], line[end:]])
