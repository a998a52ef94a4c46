"""DICOM RT Structure Sets: a contour around each part of a class on each plane of its scan."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from scipy.ndimage import find_objects

from med3d_components import __version__
from med3d_components.data.dicom import DicomSeries
from med3d_components.masks.classes import MaskClass
from med3d_components.masks.dicom_headers import IDENTITY, MAKER, read_headers, series_of
from med3d_components.masks.outlines import outlines
from med3d_components.utils import atomic_path

__all__ = ["write_rtstruct"]


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
    series = series_of(scan_path, mask, resample)
    headers = read_headers(series)
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
        for polygon in outlines(part[rows, columns, k]):
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
