"""What one DICOM file holds: its header as slices, and their voxels.

pydicom reads the headers. Voxels that are not compressed are read where the header ends, all others are unpacked by
GDCM, which comes with ITK; slope and intercept are applied here, each slice's own.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import itk
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

__all__ = ["Content", "Frame", "Slice", "is_dicom_file", "join", "quiet", "read_file", "read_frames"]

_GEOMETRY = {
    "ImagePositionPatient": ("position", 3),
    "ImageOrientationPatient": ("orientation", 6),
    "PixelSpacing": ("pixel spacing", 2),
}
_PARTS = {
    "acquisition": ("FrameAcquisitionNumber", "AcquisitionNumber"),
    "temporal position": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "echo time": ("EffectiveEchoTime", "EchoTime"),
    "echo": ("EchoNumbers",),
    "b-value": ("DiffusionBValue",),
    "image type": ("FrameType", "ImageType"),
    "stack": ("StackID",),
}
"""What tells volumes within one SeriesInstanceUID apart, in the order of trial: of a frame first, else of the file."""
_PIXELS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
]
_TAGS = [
    *_PIXELS,
    *_GEOMETRY,
    *(keyword for keywords in _PARTS.values() for keyword in keywords),
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Modality"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "SliceThickness", "SpacingBetweenSlices"),
    "InstanceNumber",
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
_VOLUMES = ("CT", "MR", "PT")
_UNITS = ("CT", "PT")
_NATIVE = (None, ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_UNDEFINED = 0xFFFFFFFF
_PLAIN = (SecondaryCaptureImageStorage, MultiFrameGrayscaleWordSecondaryCaptureImageStorage)


class Frame(NamedTuple):
    """Where the voxels of a slice are and how they are stored."""

    file: Path
    number: int  # in the file, from 0
    instance_uid: str
    start: int | None  # of the first frame in the file, None if GDCM has to unpack it
    dtype: str
    shifts: tuple[int, int]  # left and then right, to be rid of bits that are no part of the value
    inverted: bool
    slope: float
    intercept: float

    def __str__(self) -> str:
        return f"{self.file.name} frame {self.number + 1}" if self.number else self.file.name


class Slice(NamedTuple):
    """What the header says of a slice, in DICOM's LPS mm."""

    frame: Frame
    series_uid: str
    study: str
    patient: str
    modality: str
    size: tuple[int, int]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    orientation: tuple[float, ...]
    thickness: float
    tags: tuple[tuple[str, str], ...]


def is_dicom_file(file: Path) -> bool:
    """Tell whether a file is one of DICOM.

    The ending is trusted, since a file cut off before its magic number must be reported and not passed over.
    """
    if file.name.startswith(".") or file.is_dir():
        return False
    if file.suffix.lower() == ".dcm":
        return True
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        head = stream.read(256)
    return head[128:132] == b"DICM" or _is_bare(head)


def _is_bare(head: bytes) -> bool:
    """Tell whether bytes are two elements of a DICOM header in order, as in files without preamble."""
    tags, start = [], 0
    for _ in range(2):
        tag, kind = head[start : start + 4], head[start + 4 : start + 6]
        if len(tag) < 4 or tag[:2] not in (b"\2\0", b"\x08\0"):
            return False
        tags.append((tag[0], tag[2] + 256 * tag[3]))
        if kind in (b"OB", b"UN", b"SQ", b"UT"):
            start += 12 + int.from_bytes(head[start + 8 : start + 12], "little")
        elif kind.isalpha() and kind.isupper():
            start += 8 + int.from_bytes(head[start + 6 : start + 8], "little")
        else:
            start += 8 + int.from_bytes(head[start + 4 : start + 8], "little")
    return tags[0] < tags[1]


class Content(NamedTuple):
    """What is in a file: slices, or something of another kind, or an error; of which series as far as is known."""

    slices: tuple[Slice, ...] = ()
    kind: str = ""
    error: str = ""
    series_uid: str = ""


class _UnfitError(ValueError):
    """Says what is wrong with a file, as the rest of a sentence that starts with its name."""


def read_file(file: Path) -> Content:
    """Read the header of a file; what is wrong with it is part of the content, not raised."""
    uid = ""
    try:
        if not is_dicom_file(file):
            return Content()
        with file.open("rb") as stream:
            header = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
            attributes = _flatten([header.file_meta, header])
            uid = _text(attributes, "SeriesInstanceUID")
            if kind := _kind(attributes, "PerFrameFunctionalGroupsSequence" in header):
                return Content(kind=kind, series_uid=uid)
            layout = _layout(stream, attributes)
            return Content(tuple(_read_slices(file, header, attributes, layout)), series_uid=uid)
    except _UnfitError as e:
        return Content(error=f"{file} {e}", series_uid=uid)
    except Exception as e:  # pydicom raises whatever the bytes lead it to
        reason = f" ({e})" if str(e) else ""
        return Content(error=f"{file} is cut off or no DICOM image{reason}; copy it anew.", series_uid=uid)


_QUIET = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back pydicom's remarks on values that break rules of form, hundreds in a series.

    One thread at a time, since Python's filters are one for all and would not come back as they were.
    """
    log = logging.getLogger("pydicom")
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)


def _kind(attributes: dict[str, Any], in_frames: bool) -> str:
    """Name what is no slice of a volume; empty for one that is."""
    sop_class = UID(_text(attributes, "SOPClassUID") or _text(attributes, "MediaStorageSOPClassUID"))
    modality = _text(attributes, "Modality")
    placed = in_frames or "ImagePositionPatient" in attributes
    is_image = "Image Storage" in sop_class.name or sop_class.is_private
    if is_image and not placed and not (sop_class and "Rows" in attributes):
        raise EOFError
    label = modality if modality and modality not in _VOLUMES else sop_class.name
    if not is_image:
        return label
    kinds = [str(value).upper() for value in _values(attributes.get("ImageType"))]
    if "LOCALIZER" in kinds or "SCOUT" in kinds:
        return "localizer"
    if attributes.get("SamplesPerPixel", 1) != 1 or "PALETTE" in _text(attributes, "PhotometricInterpretation"):
        return "colour picture"
    should_be_placed = modality in _VOLUMES and "Secondary" not in sop_class.name and "SECONDARY" not in kinds
    return "" if placed or should_be_placed else label


def _read_slices(file: Path, header: Any, attributes: dict[str, Any], layout: _Layout) -> Iterator[Slice]:
    """Read what the header says of each frame."""
    shared, groups = (header.get(f"{name}FunctionalGroupsSequence") or [] for name in ("Shared", "PerFrame"))
    count = int(attributes.get("NumberOfFrames", 1))
    if len(groups) != count and (groups or count > 1):
        raise _UnfitError(f"holds {count} slices without a place for each; give a file for each slice, or NIfTI.")
    if "MOSAIC" in _values(attributes.get("ImageType")):
        raise _UnfitError("is a mosaic of slices; convert the series to NIfTI.")
    if "ModalityLUTSequence" in header:
        raise _UnfitError("gives its values by a table (Modality LUT Sequence); convert the series to NIfTI.")
    for group in shared:
        attributes = attributes | _flatten(_functions(group))
    for number, group in enumerate(groups or [[]]):
        yield _slice(file, number, layout, attributes | _flatten(_functions(group)))


def _functions(group: Iterable[Any]) -> list[Any]:
    """Return the items of a functional group; a private one may hold the tags of the file it was made from."""
    sequences = (element.value for element in group if element.VR == "SQ" and not element.tag.is_private)
    return [sequence[0] for sequence in sequences if sequence]


def _flatten(items: Iterable[Any]) -> dict[str, Any]:
    """Return the values of several items by their keywords, without empty ones."""
    elements = (element for item in items for element in item if element.VR != "SQ")
    return {element.keyword: element.value for element in elements if element.value not in (None, "", [])}


class _Layout(NamedTuple):
    start: int | None
    dtype: str
    shifts: tuple[int, int]
    inverted: bool


def _layout(stream: BinaryIO, attributes: dict[str, Any]) -> _Layout:
    """Find how the voxels are stored after the header, and check that all are there."""
    columns, rows, bits = (int(attributes[keyword]) for keyword in ("Columns", "Rows", "BitsAllocated"))
    stored = int(attributes.get("BitsStored", bits))
    top = int(attributes.get("HighBit", stored - 1)) + 1
    # MONOCHROME1 says how to show values, not what they are: the units of CT and PET hold, and GDCM is wrong to invert
    # them (DICOM PS3.3 C.7.6.3.1.2). Values of other modalities have no unit, and what is bright should be high in all.
    monochrome1 = _text(attributes, "PhotometricInterpretation") == "MONOCHROME1"
    syntax = attributes.get("TransferSyntaxUID")
    native, order, start = syntax in _NATIVE and bits in (8, 16, 32), "<", stream.tell()
    if syntax != DeflatedExplicitVRLittleEndian:  # which pydicom has unpacked, and so checked
        head = stream.read(12)
        order = {b"\xe0\x7f\x10\0": "<", b"\x7f\xe0\0\x10": ">"}.get(head[:4], "")
        if not order:
            raise EOFError
        explicit = head[4:6] in (b"OB", b"OW", b"UN")
        length = int(np.frombuffer(head[8:] if explicit else head[4:8], f"{order}u4")[0])
        start += 12 if explicit else 8
        size = stream.seek(0, os.SEEK_END)
        count = int(attributes.get("NumberOfFrames", 1))
        if native and length < rows * columns * count * bits // 8:
            raise EOFError
        if not (_has_end(stream, start) if length == _UNDEFINED else start + length <= size):
            raise EOFError
    return _Layout(
        start=start if native else None,
        dtype=f"{order}{'i' if attributes.get('PixelRepresentation') else 'u'}{bits // 8}",
        shifts=(bits - top, bits - stored),
        inverted=monochrome1 and _text(attributes, "Modality") not in _UNITS,
    )


def _has_end(stream: BinaryIO, start: int) -> bool:
    """Tell whether the fragments of compressed voxels go on to the mark at their end."""
    stream.seek(start)
    while (head := stream.read(8))[:4] == b"\xfe\xff\0\xe0":
        stream.seek(int.from_bytes(head[4:], "little"), os.SEEK_CUR)
    return head[:4] == b"\xfe\xff\xdd\xe0"


def _slice(file: Path, number: int, layout: _Layout, attributes: dict[str, Any]) -> Slice:
    geometry = {}
    for keyword, (_, count) in _GEOMETRY.items():
        values = tuple(float(value) for value in _values(attributes.get(keyword)))
        geometry[keyword] = values if len(values) == count and np.isfinite(values).all() else ()
    if missing := [_GEOMETRY[keyword][0] for keyword, values in geometry.items() if not values]:
        raise _UnfitError(f"has no {' and no '.join(missing)}, so its place is unknown; move it away.")
    spacing, orientation = geometry["PixelSpacing"][::-1], geometry["ImageOrientationPatient"]
    along, across = np.reshape(orientation, (2, 3))
    if min(spacing) <= 0 or not np.allclose([along @ along, across @ across, along @ across], [1, 1, 0], atol=0.005):
        raise _UnfitError(
            f"has pixels of {join(spacing)} mm along {join(orientation)}, which cannot be; repair its header."
        )
    slope, intercept = (float(attributes.get(f"Rescale{name}", no)) for name, no in (("Slope", 1), ("Intercept", 0)))
    if not np.isfinite([slope, intercept]).all():
        raise _UnfitError(f"has the slope {slope} and intercept {intercept}; repair it.")
    thickness = attributes.get("SpacingBetweenSlices") or attributes.get("SliceThickness") or 0
    return Slice(
        frame=Frame(file, number, _text(attributes, "SOPInstanceUID"), *layout, slope, intercept),
        series_uid=_text(attributes, "SeriesInstanceUID"),
        study=_text(attributes, "StudyInstanceUID"),
        patient=_text(attributes, "PatientID"),
        modality=_text(attributes, "Modality"),
        size=(int(attributes["Columns"]), int(attributes["Rows"])),
        spacing=spacing,
        origin=geometry["ImagePositionPatient"],
        orientation=orientation,
        thickness=abs(float(thickness)),
        tags=_part_tags(attributes),
    )


def _part_tags(attributes: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    tags = {}
    for label, keywords in _PARTS.items():
        value = next((attributes[keyword] for keyword in keywords if keyword in attributes), None)
        if value is not None:
            tags[label] = "-".join(f"{x:g}" if isinstance(x, float) else str(x) for x in _values(value))
    if "DimensionIndexValues" in attributes:
        indices = enumerate(_values(attributes["DimensionIndexValues"]), start=1)
        tags.update({f"dimension {number}": str(value) for number, value in indices})
        tags["instance"] = _text(attributes, "InstanceNumber")
    return tuple(tags.items())


def _values(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple, MultiValue)) else [value]


def _text(attributes: dict[str, Any], keyword: str) -> str:
    return str(attributes.get(keyword, "")).strip(" \0")


def join(values: Any) -> str:
    """Return numbers as text for a message."""
    return " ".join(f"{value:g}" for value in np.ravel(values))


def read_frames(frames: Iterable[Frame], size: tuple[int, int]) -> Iterator[NDArray[np.float64]]:
    """Read the values of slices of (rows, columns)."""
    for file, some in groupby(frames, key=lambda frame: frame.file):
        unpacked = None
        for frame in some:
            if frame.start is None:
                unpacked = _unpack(file, size) if unpacked is None else unpacked
                stored = unpacked[frame.number]
            else:
                stored = _load(frame, size)
            if frame.inverted:
                top = -1 if frame.dtype[1] == "i" else np.iinfo(frame.dtype).max >> frame.shifts[1]
                stored = np.subtract(top, stored, dtype=np.int64)
            yield np.multiply(stored, frame.slope, dtype=np.float64) + frame.intercept


def _load(frame: Frame, size: tuple[int, int]) -> NDArray[Any]:
    dtype, count = np.dtype(frame.dtype), int(np.prod(size))
    start = (frame.start or 0) + frame.number * count * dtype.itemsize
    stored = np.fromfile(frame.file, dtype, count, offset=start)
    if len(stored) < count:
        raise ValueError(f"{frame.file} is cut off; copy it anew.")
    left, right = frame.shifts
    return ((stored << left) >> right if left or right else stored).reshape(size)


def _unpack(file: Path, size: tuple[int, int]) -> NDArray[Any]:
    """Unpack the compressed voxels of all frames as they are stored.

    GDCM applies the slope of the first frame to all of them and inverts MONOCHROME1, so it is given a copy with no more
    than the voxels and their layout.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "packed.dcm")
        with quiet():
            header = pydicom.dcmread(file, force=True, specific_tags=[*_PIXELS, "SOPInstanceUID", "PixelData"])
            sop_class = _PLAIN[int(header.get("NumberOfFrames") or 1) > 1]
            header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = sop_class
            header.PhotometricInterpretation = "MONOCHROME2"
            header.save_as(copy)
        try:
            return np.reshape(itk.array_from_image(itk.imread(str(copy))), (-1, *size))
        except (RuntimeError, ValueError) as e:
            syntax = header.file_meta.TransferSyntaxUID.name
            raise ValueError(f"{file} cannot be unpacked: GDCM does not know {syntax}, or it is damaged.") from e
