"""Find the volumes in folders of DICOM files, check that each is one, and read its voxels.

A volume is what its slices' positions say, whatever the files are called, in whichever folders they lie and whatever
else is among them. pydicom reads the headers. Voxels that are not compressed are read where the header ends, all others
are unpacked by GDCM, which comes with ITK; slope and intercept are applied here, each slice's own.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations, groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import itk
import numpy as np
import pydicom
from monai.data.utils import orientation_ras_lps
from nibabel.affines import from_matvec
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
from scipy import ndimage

__all__ = [
    "DicomSeries",
    "FoundSeries",
    "find_series",
    "is_dicom_file",
    "is_dicom_folder",
    "quiet",
    "read_series",
    "walk_files",
]

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
_SAME_MM = 0.01
_ROUNDED_MM = 0.11  # scanners that write positions in tenths of a millimetre make gaps differ by one
_PLANES = 3  # slices of a localizer, often, each of another direction
_OTHER_DIRECTION = 0.1  # in a cosine: what differs less is one direction that was written badly
_MOST_TIMES = 8  # as many voxels as were taken, in a volume that is resampled
_KEPT = 4096  # series whose headers stay in memory
_PLAIN = (SecondaryCaptureImageStorage, MultiFrameGrayscaleWordSecondaryCaptureImageStorage)


class _Frame(NamedTuple):
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


class _Slice(NamedTuple):
    """What the header says of a slice, in DICOM's LPS mm."""

    frame: _Frame
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


@dataclass(frozen=True)
class _Grid:
    """How slices lie on the upright, even grid that they are resampled to."""

    size: tuple[int, int]  # rows and columns of a slice
    places: NDArray[np.float64]  # along the third axis, in voxels of the grid, (N,)
    shifts: NDArray[np.float64]  # of rows and columns, in voxels, (N, 2)
    fill: float  # beyond the slices' edges


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """A volume in DICOM files.

    Attributes:
        path: by which ``read_series`` finds it again: its folder, or ``FOLDER::NAME`` where that would not be clear.
        folder: the deepest that holds all files.
        uid: SeriesInstanceUID.
        part: what tells the volume from others of the same UID, such as ``acquisition 2``; empty if it is the only one.
        modality: such as CT, MR or PT.
        patient: PatientID, may be empty.
        shape: voxels along (column i, row j, slice k).
        affine: voxel (i, j, k) to RAS mm, (4, 4).
        frames: where each slice is, and how its values are stored.
        grid: how to resample the slices; None if they are a volume as they are.
    """

    path: str
    folder: Path
    uid: str
    part: str
    modality: str
    patient: str
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    frames: tuple[_Frame, ...] = field(repr=False)
    grid: _Grid | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Name for results: the UID and the part, which are no patient's name."""
        return _name(self.uid or self.frames[0].instance_uid or self.folder.name, self.part)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files in the order of their slices along the normal; one if it holds several frames."""
        return tuple(dict.fromkeys(frame.file for frame in self.frames))

    @property
    def instance_uids(self) -> tuple[str, ...]:
        """SOPInstanceUID of each slice."""
        return tuple(frame.instance_uid for frame in self.frames)

    def read(self, box: Sequence[slice] = (slice(None),) * 3) -> NDArray[np.float32]:
        """Read the voxels in a box, of no more files than it takes.

        Args:
            box: slices of step 1 along (i, j, k); everything if left out.

        Returns:
            Values after slope and intercept of each slice (HU for CT), of the shape of the box, columns next to each
            other in memory.

        Raises:
            ValueError: if a file cannot be unpacked.

        Example:
            >>> read_series("imagesTs/patient_1").read((slice(2, 6), slice(0, 12), slice(3, 4))).shape
            (4, 12, 1)
        """
        columns, rows, slices = (range(length)[part] for length, part in zip(self.shape, box, strict=True))
        out = np.empty((len(slices), len(rows), len(columns)), np.float32)
        planes = (
            _read_frames([self.frames[k] for k in slices], self.shape[1::-1])
            if self.grid is None
            else _resample(self.frames, self.grid, slices, self.shape[1::-1])
        )
        for to, plane in zip(out, planes, strict=True):
            to[:] = plane[rows.start : rows.stop, columns.start : columns.stop]
        return out.T


class FoundSeries(NamedTuple):
    """What a folder holds.

    Attributes:
        series: the volumes, in the order of their paths.
        failures: path and reason of each series or file that should be a volume but is none.
        notes: what was passed over, a line for each kind.
    """

    series: list[DicomSeries]
    failures: list[tuple[str, str]]
    notes: list[str]


def is_dicom_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether the folder itself, not one below it, holds a DICOM file. Hidden files do not count."""
    path = Path(path)
    return path.is_dir() and any(is_dicom_file(file) for file in path.iterdir())


def find_series(root: str | os.PathLike[str], resample: bool = False) -> FoundSeries:
    """Find the volumes in a folder and all below it.

    Slices of one SeriesInstanceUID make a volume, in however many folders they lie. Where several share a position they
    are told apart by AcquisitionNumber, TemporalPositionIdentifier, EchoTime, EchoNumbers, DiffusionBValue, ImageType,
    or an index of a multi-frame file, whichever makes each part a volume, and by two or three of these if none does.
    Localizers, objects that are no images and copies of a slice are passed over. So is a single slice of a study (or,
    where StudyInstanceUID is missing, of a folder) that holds a volume; any other is a volume of its SliceThickness.
    Slices of several patients or studies under one UID are a failure, and so are two slices of one SOPInstanceUID that
    differ.

    Links are followed, a folder that was seen already is not entered again, and hidden files are left out.

    Args:
        root: of the tree.
        resample: whether slices that are unevenly spaced, or were taken with a tilted gantry, become a volume by linear
            interpolation on an upright grid of even steps, instead of a failure.

    Raises:
        FileNotFoundError: if there is no such folder.

    Example:
        >>> found = find_series("imagesTs")
        >>> [series.path for series in found.series], found.failures, found.notes
        (['imagesTs/patient_1'], [], [])
    """
    root = Path(root)
    _check_folder(root)
    unreadable: list[tuple[str, str]] = []
    found = _find(walk_files(root, unreadable), resample)
    return found._replace(failures=unreadable + found.failures)


def read_series(path: str | os.PathLike[str], resample: bool = False) -> DicomSeries:
    """Read the headers of a series and check that its slices make one volume.

    The slices' positions count, not the names of the files. Slices missing at either end of the volume leave no trace
    in the others and are not found. What has been found once is kept as long as its files stay the same.

    Args:
        path: ``FOLDER``, of which only the files of its own count if one of them is DICOM, else all below; or
            ``FOLDER::NAME`` for one of several volumes, as ``DicomSeries.path`` gives it.
        resample: as for ``find_series``.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the folder holds no volume, several, or one that is broken: a file is not readable; slices differ
            in size, spacing or direction, have no position, share one or are shifted sideways; or their distances
            differ by more than 1 %, as they do where one is missing.

    Example:
        >>> read_series("imagesTs/patient_1").shape
        (16, 12, 8)
    """
    text = os.fspath(path)
    if known := _known(text, resample):
        return known
    folder, name = (text, "") if os.path.isdir(text) or "::" not in text else text.rsplit("::", 1)
    _check_folder(Path(folder))
    unreadable: list[tuple[str, str]] = []
    own = not name and is_dicom_folder(folder)
    files = sorted(Path(folder).iterdir()) if own else walk_files(Path(folder), unreadable)
    found = _find(files, resample, keep_single=bool(name))
    failures = unreadable + found.failures
    if name:
        for series in found.series:
            if series.name == name:
                return _keep(text, resample, series)
        failures = [failure for failure in failures if failure[0].endswith(f"::{name}")]
    if failures:
        raise ValueError(failures[0][1])
    names = ", ".join(f"{series.name} ({series.shape[2]} slices)" for series in found.series)
    if name:
        raise ValueError(f"{folder} holds no DICOM series {name}, but {names or 'none'}; list the folder anew.")
    if not found.series:
        others = "".join(f"; {note}" for note in found.notes)
        raise ValueError(f"{folder} holds no DICOM volume; give the folder that holds the slices of a series{others}.")
    if len(found.series) > 1:
        raise ValueError(f"{folder} holds {len(found.series)} series: {names}; give one, as {found.series[0].path}.")
    return _keep(text, resample, found.series[0])


_SEEN: dict[tuple[str, bool], tuple[DicomSeries, tuple[int, ...]]] = {}


def _keep(path: str, resample: bool, series: DicomSeries) -> DicomSeries:
    while len(_SEEN) >= _KEPT:
        _SEEN.pop(next(iter(_SEEN)), None)
    _SEEN[os.path.abspath(path), resample] = series, _stamp(series)
    return series


def _known(path: str, resample: bool) -> DicomSeries | None:
    series, stamp = _SEEN.get((os.path.abspath(path), resample), (None, ()))
    try:
        return series if series is not None and _stamp(series) == stamp else None
    except OSError:
        return None


def _stamp(series: DicomSeries) -> tuple[int, ...]:
    """Return when the files changed, and their folders, which do when a file comes or goes."""
    folders = {series.folder, *(file.parent for file in series.files)}
    return tuple(path.stat().st_mtime_ns for path in (*sorted(folders), *series.files))


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the one that holds the DICOM files of a series.")


def walk_files(root: Path, unreadable: list[tuple[str, str]]) -> Iterator[Path]:
    """Iterate over the files below a folder in the order of their names, through each link once.

    Args:
        root: of the tree.
        unreadable: gets path and reason of each folder that cannot be opened.
    """
    seen: set[str] = set()

    def report(error: OSError) -> None:
        unreadable.append((str(Path(error.filename)), f"{error.filename} cannot be opened ({error.strerror})."))

    for folder, folders, files in os.walk(root, followlinks=True, onerror=report):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files))


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


class _Content(NamedTuple):
    """What is in a file: slices, or something of another kind, or an error; of which series as far as is known."""

    slices: tuple[_Slice, ...] = ()
    kind: str = ""
    error: str = ""
    series_uid: str = ""


class _UnfitError(ValueError):
    """Says what is wrong with a file, as the rest of a sentence that starts with its name."""


def _read_file(file: Path) -> _Content:
    uid = ""
    try:
        if not is_dicom_file(file):
            return _Content()
        with file.open("rb") as stream:
            header = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
            attributes = _flatten([header.file_meta, header])
            uid = _text(attributes, "SeriesInstanceUID")
            if kind := _kind(attributes, "PerFrameFunctionalGroupsSequence" in header):
                return _Content(kind=kind, series_uid=uid)
            layout = _layout(stream, attributes)
            return _Content(tuple(_read_slices(file, header, attributes, layout)), series_uid=uid)
    except _UnfitError as e:
        return _Content(error=f"{file} {e}", series_uid=uid)
    except Exception as e:  # pydicom raises whatever the bytes lead it to
        reason = f" ({e})" if str(e) else ""
        return _Content(error=f"{file} is cut off or no DICOM image{reason}; copy it anew.", series_uid=uid)


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


def _read_slices(file: Path, header: Any, attributes: dict[str, Any], layout: _Layout) -> Iterator[_Slice]:
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


def _slice(file: Path, number: int, layout: _Layout, attributes: dict[str, Any]) -> _Slice:
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
            f"has pixels of {_join(spacing)} mm along {_join(orientation)}, which cannot be; repair its header."
        )
    slope, intercept = (float(attributes.get(f"Rescale{name}", no)) for name, no in (("Slope", 1), ("Intercept", 0)))
    if not np.isfinite([slope, intercept]).all():
        raise _UnfitError(f"has the slope {slope} and intercept {intercept}; repair it.")
    thickness = attributes.get("SpacingBetweenSlices") or attributes.get("SliceThickness") or 0
    return _Slice(
        frame=_Frame(file, number, _text(attributes, "SOPInstanceUID"), *layout, slope, intercept),
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


def _name(uid: str, part: str) -> str:
    return re.sub(r"[^-.0-9A-Za-z]+", "_", f"{uid}_{part}" if part else uid).lstrip(".")


def _join(values: Any) -> str:
    return " ".join(f"{value:g}" for value in np.ravel(values))


class _Part(NamedTuple):
    """Slices that are a volume in the order they have, or that should be one, with what is wrong."""

    slices: list[_Slice]
    name: str = ""
    error: str = ""


def _find(files: Iterable[Path], resample: bool, keep_single: bool = False) -> FoundSeries:
    """Sort files into volumes."""
    slices: dict[str, list[_Slice]] = defaultdict(list)
    broken: dict[str, tuple[Path, str]] = {}
    lost: list[tuple[Path, str]] = []
    passed: dict[str, list[Path]] = defaultdict(list)
    with quiet():
        for file in files:
            content = _read_file(file)
            for one in content.slices:
                slices[one.series_uid or str(file.parent)].append(one)
            if content.kind:
                passed[content.kind].append(file)
            elif content.error and content.series_uid:
                broken.setdefault(content.series_uid, (file, content.error))
            elif content.error:
                lost.append((file, content.error))
    failures = []
    for file, error in lost:  # a slice of the only series beside it, for all that one can tell
        beside = [uid for uid, some in slices.items() if any(x.frame.file.parent == file.parent for x in some)]
        if len(beside) == 1:
            broken.setdefault(beside[0], (file, error))
        else:
            failures.append((str(file), error))
    failures += [(str(file), error) for uid, (file, error) in broken.items() if uid not in slices]
    parts = []
    for uid, some in slices.items():
        try:
            if uid in broken:
                raise ValueError(broken[uid][1])
            _check_one_study(some)
            parts += _sort_series(some, resample, passed)
        except ValueError as e:
            parts.append(_Part(some, error=str(e)))
    if not keep_single:
        whole = {_study(x) for part in parts if len(part.slices) > 1 for x in part.slices}
        strays = [len(part.slices) == 1 and not part.error and _study(part.slices[0]) in whole for part in parts]
        passed["single slice"] += [x.slices[0].frame.file for x, stray in zip(parts, strays, strict=True) if stray]
        parts = [part for part, stray in zip(parts, strays, strict=True) if not stray]
    owners = Counter(folder for part in parts for folder in {x.frame.file.parent for x in part.slices})
    found = []
    for part in parts:
        first, folder = part.slices[0], _folder(part.slices)
        uid = first.series_uid or first.frame.instance_uid or folder.name
        alone = owners[folder] == 1 and all(x.frame.file.parent == folder for x in part.slices)
        path = str(folder) if alone else f"{folder}::{_name(uid, part.name)}"
        try:
            if part.error:
                raise ValueError(part.error)
            found.append(_assemble(path, part))
        except ValueError as e:
            failures.append((path, str(e)))
    if any(frame.start is None for series in found for frame in series.frames):
        # ITK changes the working directory while it loads a module at its first use, so that files of relative paths
        # are not there for other threads (SCIInstitute/ShapeWorks#2315); threads read voxels, but do not list them.
        _ = itk.ImageFileReader, itk.PyBuffer
    found.sort(key=lambda series: series.path)
    for series in found:
        _keep(series.path, resample, series)
    notes = [f"passed over {len(some)} x {kind}, first {some[0]}" for kind, some in sorted(passed.items()) if some]
    return FoundSeries(found, sorted(failures), notes)


def _sort_series(slices: list[_Slice], resample: bool, passed: dict[str, list[Path]]) -> list[_Part]:
    """Sort the slices of one UID into volumes, and what is none among them into ``passed``."""
    known: dict[tuple[str | Path, int], _Slice] = {}
    copies = []
    for one in slices:
        first = known.setdefault((one.frame.instance_uid or one.frame.file, one.frame.number), one)
        if first is not one:
            copies.append((first, one))
    _check_copies(copies)
    passed["copy of a slice"] += [one.frame.file for _, one in copies]
    directions: list[list[_Slice]] = []
    for one in known.values():
        for others in directions:
            if np.allclose(one.orientation, others[0].orientation, atol=_OTHER_DIRECTION):
                others.append(one)
                break
        else:
            directions.append([one])
    single = [others[0].frame.file for others in directions if len(others) == 1]
    if len(directions) > 1 and len(single) <= max(_PLANES, len(known) // 2):
        passed["localizer"] += single
        directions = [others for others in directions if len(others) > 1]
    names = [_plane(others[0]) if len(directions) > 1 else "" for others in directions]
    if len(set(names)) < len(names):  # two volumes as well as one that is broken
        directions, names = [list(known.values())], [""]
    return [part for name, others in zip(names, directions, strict=True) for part in _split(others, name, resample)]


def _study(one: _Slice) -> tuple[str, str]:
    return one.study or str(one.frame.file.parent), one.patient


def _check_one_study(slices: Iterable[_Slice]) -> None:
    """Refuse slices of several patients or studies, as they are where UIDs were replaced by a constant."""
    for key, name in (("patient", "patients (PatientID)"), ("study", "studies (StudyInstanceUID)")):
        firsts = {getattr(one, key): one for one in reversed(list(slices)) if getattr(one, key)}
        if len(firsts) > 1:
            files = sorted(one.frame.file for one in firsts.values())
            places = sorted({file.parent for file in files})
            uid = next(iter(firsts.values())).series_uid or "none"
            raise ValueError(
                f"{', '.join(map(str, places if len(places) == len(files) else files))} are of different {name}, but "
                f"have one SeriesInstanceUID, {uid}; give each a UID of its own, or its folder alone."
            )


def _check_copies(pairs: Sequence[tuple[_Slice, _Slice]]) -> None:
    """Refuse slices of one SOPInstanceUID that differ in place or voxels, in whichever way these are packed."""
    for one, other in pairs:
        if one._replace(frame=other.frame, study=other.study, patient=other.patient) != other:
            raise _twins_error(one, other, "headers")
    for size, some in groupby(pairs, key=lambda pair: pair[0].size):
        group = list(some)
        planes = (_read_frames([pair[side].frame for pair in group], size[::-1]) for side in (0, 1))
        for (one, other), *two in zip(group, *planes, strict=True):
            if not np.array_equal(*two):
                raise _twins_error(one, other, "voxels")


def _twins_error(one: _Slice, other: _Slice, what: str) -> ValueError:
    return ValueError(
        f"{one.frame.file} and {other.frame.file} have one SOPInstanceUID, but their {what} differ; keep the files of "
        "one of the two, or give each a UID of its own."
    )


def _plane(one: _Slice) -> str:
    return ("sagittal", "coronal", "axial")[int(np.abs(_axes(one)[:, 2]).argmax())]


def _axes(one: _Slice) -> NDArray[np.float64]:
    """Return the directions of columns' numbers, rows' numbers and slices, (3, 3)."""
    along, across = np.reshape(one.orientation, (2, 3))
    axes = np.stack([along, across, np.cross(along, across)], axis=1)
    return axes / np.linalg.norm(axes, axis=0)


def _split(slices: list[_Slice], name: str, resample: bool) -> list[_Part]:
    """Sort slices of one direction into volumes by what tells those at one position apart."""
    try:
        return [_Part(_in_order(slices, resample), name)]
    except ValueError as e:
        error = str(e)
        if not isinstance(e, _RepeatedError):
            return [_Part(slices, name, error)]
    tags = [dict(one.tags) for one in slices]
    every = dict.fromkeys(label for some in tags for label in some)
    labels = [label for label in every if 1 < len({some.get(label) for some in tags}) <= len(slices) // 2]
    for chosen in (chosen for count in (1, 2, 3) for chosen in combinations(labels, count)):
        groups: dict[str, list[_Slice]] = defaultdict(list)
        for one, some in zip(slices, tags, strict=True):
            groups[" ".join([name, *(f"{label} {some.get(label, 'none')}" for label in chosen)]).strip()].append(one)
        if min(map(len, groups.values())) > 1 and len({_name("", key) for key in groups}) == len(groups):
            try:
                return [_Part(_in_order(group, resample), key) for key, group in groups.items()]
            except ValueError:
                continue
    return [_Part(slices, name, error)]


class _RepeatedError(ValueError):
    """Two slices share a position."""


def _in_order(slices: list[_Slice], resample: bool) -> list[_Slice]:
    """Return the slices of a volume in the order of their positions."""
    _check_alike(slices)
    if len(slices) == 1 and not slices[0].thickness:
        raise ValueError(
            f"{slices[0].frame.file} is a single slice without SliceThickness; a volume needs one or more."
        )
    normal = _axes(slices[0])[:, 2]
    slices = sorted(slices, key=lambda x: float(np.dot(x.origin, normal)))
    places = _places(slices)[:, 2]
    gaps = np.diff(places)
    if len(gaps) and gaps.min() < _SAME_MM:
        least = int(gaps.argmin())
        raise _RepeatedError(
            f"{_folder(slices)} holds two slices at {places[least]:g} mm, {slices[least].frame} and "
            f"{slices[least + 1].frame}, and no tag tells volumes apart; keep one for each position."
        )
    if not resample:
        _check_upright(slices)
    return slices


def _folder(slices: Iterable[_Slice]) -> Path:
    return Path(os.path.commonpath([one.frame.file.parent for one in slices]))


def _places(slices: Sequence[_Slice]) -> NDArray[np.float64]:
    """Return the slices' origins in mm along the directions of the first, (N, 3)."""
    return np.array([one.origin for one in slices]) @ _axes(slices[0])


def _check_alike(slices: Sequence[_Slice]) -> None:
    first = slices[0]
    for key, name in (("size", "size"), ("spacing", "pixel spacing"), ("orientation", "direction")):
        values = np.array([getattr(one, key) for one in slices])
        unlike = ~np.isclose(values, values[0], atol=1e-4).all(axis=1)
        if unlike.any():
            other = int(unlike.argmax())
            raise ValueError(
                f"{_folder(slices)} holds slices of different {name}: {first.frame} has {_join(values[0])}, "
                f"{slices[other].frame} has {_join(values[other])}; keep those of one volume."
            )


def _check_upright(slices: Sequence[_Slice]) -> None:
    """Check slices that are in order: they lie at equal distances, straight above the first."""
    places = _places(slices)
    gaps = np.diff(places[:, 2])
    if not len(gaps):
        return
    least, most, usual = int(gaps.argmin()), int(gaps.argmax()), float(np.median(gaps))
    odd = most if gaps[most] - usual >= usual - gaps[least] else least
    if abs(gaps[odd] - usual) > max(0.01 * usual, _ROUNDED_MM):
        raise ValueError(
            f"{_folder(slices)} misses slices or has them unevenly spaced: from {places[odd, 2]:g} mm "
            f"({slices[odd].frame}) to {places[odd + 1, 2]:g} mm ({slices[odd + 1].frame}) it is {gaps[odd]:g} mm, "
            f"elsewhere {usual:g} mm; copy the whole series anew, or resample it."
        )
    sideways = np.abs(places[:, :2] - places[0, :2])
    if (sideways > np.divide(slices[0].spacing, 2)).any():
        raise ValueError(
            f"{_folder(slices)} has slices shifted sideways by up to {sideways.max():g} mm, as a tilted gantry makes "
            "them; resample the series to an upright volume first."
        )


def _assemble(path: str, part: _Part) -> DicomSeries:
    """Make a volume of slices that are in order."""
    first, count = part.slices[0], len(part.slices)
    places = _places(part.slices)
    places -= places[0]
    step = places[-1, 2] / (count - 1) if count > 1 else first.thickness
    (columns, rows), origin = first.size, np.array(first.origin)
    grid = None
    try:
        _check_upright(part.slices)
    except ValueError as e:
        step = float(np.median(np.diff(places[:, 2])))
        shifts = np.round(places[:, :2] / first.spacing, 6)
        low = np.floor(shifts.min(axis=0))
        shifts -= low
        origin = origin + _axes(first)[:, :2] @ (low * first.spacing)
        fill = -1024.0 if first.modality == "CT" else 0.0
        grid = _Grid((rows, columns), places[:, 2] / step, shifts[:, ::-1], fill)
        count = int(places[-1, 2] / step + 1e-3) + 1
        columns, rows = np.add(np.ceil(shifts.max(axis=0)).astype(int), (columns, rows)).tolist()
        if columns * rows * count > _MOST_TIMES * np.prod(first.size) * len(part.slices):
            size = f"{columns} x {rows} x {count}"
            raise ValueError(
                f"{e} Resampled it would have {size} voxels, more than {_MOST_TIMES} times as many."
            ) from e
    return DicomSeries(
        path=path,
        folder=_folder(part.slices),
        uid=first.series_uid,
        part=part.name,
        modality=first.modality,
        patient=first.patient,
        shape=(columns, rows, count),
        affine=orientation_ras_lps(from_matvec(_axes(first) * [*first.spacing, step], origin)),
        frames=tuple(one.frame for one in part.slices),
        grid=grid,
    )


def _resample(
    frames: Sequence[_Frame], grid: _Grid, slices: range, size: tuple[int, int]
) -> Iterator[NDArray[np.float64]]:
    """Interpolate planes linearly between the nearest two slices, each moved to its place in the plane."""
    if not slices:
        return
    above = np.clip(np.searchsorted(grid.places, slices), 1, len(grid.places) - 1)
    weights = (np.asarray(slices) - grid.places[above - 1]) / (grid.places[above] - grid.places[above - 1])
    needed = range(int(above[0]) - 1, int(above[-1]) + 1)
    planes = zip(needed, _read_frames([frames[k] for k in needed], grid.size), strict=True)
    moved: dict[int, NDArray[np.float64]] = {}
    for k, weight in zip(above.tolist(), np.clip(weights, 0, 1).tolist(), strict=True):
        while k not in moved:
            number, plane = next(planes)
            moved = {old: moved[old] for old in moved if old == number - 1}
            moved[number] = ndimage.affine_transform(
                plane, np.ones(2), -grid.shifts[number], size, order=1, mode="constant", cval=grid.fill
            )
        yield (1 - weight) * moved[k - 1] + weight * moved[k]


def _read_frames(frames: Iterable[_Frame], size: tuple[int, int]) -> Iterator[NDArray[np.float64]]:
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


def _load(frame: _Frame, size: tuple[int, int]) -> NDArray[Any]:
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
