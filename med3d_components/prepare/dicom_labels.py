"""DICOM SEG and RTSTRUCT objects, and the series that each belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from med3d_components.data.dicom import DicomSeries, walk_files
from med3d_components.data.dicom_files import is_dicom_file, quiet
from med3d_components.data.scan import ENDINGS

__all__ = ["RTSTRUCT", "SEG", "DicomLabel", "find_dicom_labels", "frame_of_reference", "label_kind", "match_series"]

RTSTRUCT, SEG = "RTSTRUCT", "SEG"
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # which pydicom before 3.1 has no name for
_KINDS = {str(RTStructureSetStorage): RTSTRUCT, str(SegmentationStorage): SEG, _LABEL_MAP: SEG}


class DicomLabel(NamedTuple):
    """What a SEG or an RTSTRUCT says of itself and of its scan.

    Attributes:
        path: its file.
        kind: :data:`RTSTRUCT` or :data:`SEG`.
        uid: SOPInstanceUID, the same in a copy of the file.
        images: SOPInstanceUIDs of the slices that it was drawn on.
        series: SeriesInstanceUIDs that it was drawn on.
        frames: FrameOfReferenceUIDs of its coordinates.
    """

    path: Path
    kind: str
    uid: str
    images: frozenset[str]
    series: frozenset[str]
    frames: frozenset[str]


def label_kind(path: Path) -> str:
    """Return :data:`RTSTRUCT` or :data:`SEG` for a DICOM file, and nothing for another one."""
    with quiet(), _naming(path):
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["SOPClassUID"])
    return _KINDS.get(_text(header, "SOPClassUID") or _text(header.file_meta, "MediaStorageSOPClassUID"), "")


def find_dicom_labels(folder: Path) -> list[DicomLabel]:
    """Find the SEG and RTSTRUCT objects below a folder, or in a file; copies of one are found once."""
    files = walk_files(folder, []) if folder.is_dir() else [folder]
    found: dict[str, DicomLabel] = {}
    for path in files:
        if not path.name.lower().endswith(ENDINGS) and is_dicom_file(path) and (kind := label_kind(path)):
            label = _read_label(path, kind)
            found.setdefault(label.uid or str(path), label)
    return list(found.values())


def match_series(label: DicomLabel, series: Sequence[DicomSeries]) -> DicomSeries:
    """Return the series that a label was drawn on: by its slices, else its UID, else its frame of reference.

    Raises:
        ValueError: if there is none, or several.
    """
    rules = (
        [one for one in series if label.images.intersection(one.instance_uids)],
        [one for one in series if one.uid in label.series],
        [one for one in series if label.frames & {frame_of_reference(one)}],
    )
    found = next(filter(None, rules), [])
    if len(found) == 1:
        if found is rules[-1] and (label.series or label.images):
            print(f"{label.path} was drawn on a series that is not here; {found[0].path} has its frame of reference.")
        return found[0]
    if found:
        raise ValueError(
            f"{label.path} belongs to {len(found)} series: {', '.join(one.path for one in found)}; "
            "keep the one it was drawn on."
        )
    uids = ", ".join(sorted(label.series | label.frames)) or "none"
    raise ValueError(f"{label.path} belongs to no series here (it names {uids}); add its series, or move it away.")


def frame_of_reference(series: DicomSeries) -> str:
    """Return the FrameOfReferenceUID of a series; empty if it has none."""
    with quiet():
        header = pydicom.dcmread(series.files[0], force=True, specific_tags=["FrameOfReferenceUID"])
    return _text(header, "FrameOfReferenceUID")


def _read_label(path: Path, kind: str) -> DicomLabel:
    with quiet(), _naming(path):
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        frames = {_text(header, "FrameOfReferenceUID")}
        series = list(header.get("ReferencedSeriesSequence") or [])
        for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
            frames.add(_text(frame, "FrameOfReferenceUID"))
            for study in frame.get("RTReferencedStudySequence") or []:
                series += study.get("RTReferencedSeriesSequence") or []
        images = {_text(image, "ReferencedSOPInstanceUID") for image in _referenced_images(header, series)}
        uids = {_text(one, "SeriesInstanceUID") for one in series}
        own = _text(header, "SOPInstanceUID")
    return DicomLabel(path, kind, own, *(frozenset(found - {""}) for found in (images, uids, frames)))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in whatever pydicom raises where bytes are missing."""
    try:
        yield
    except Exception as e:
        raise ValueError(f"{path} is cut off or no DICOM file ({e}); copy it anew.") from None


def _referenced_images(header: Any, series: Sequence[Any]) -> Iterator[Any]:
    """Yield what names the slices: in the list of series, and in the frames of a SEG that has none."""
    for one in series:
        yield from one.get("ContourImageSequence") or one.get("ReferencedInstanceSequence") or []
    for frame in header.get("PerFrameFunctionalGroupsSequence") or []:
        for derivation in frame.get("DerivationImageSequence") or []:
            yield from derivation.get("SourceImageSequence") or []


def _text(item: Any, keyword: str) -> str:
    return str(item.get(keyword) or "").strip(" \0")
