"""Read a folder of DICOM slices as the one volume that it must be, or say what is wrong with it.

MONAI's ITKReader takes the first series of a folder that holds several, and spreads the slices that are there evenly
where some are missing. What is read here has passed a check of both, so that ``itk.imread`` of the files, or of
neighbours among them, gives the voxels of the volume or of a part.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import itk
import numpy as np
from monai.data.utils import orientation_ras_lps
from numpy.typing import NDArray

__all__ = ["DicomSeries", "is_dicom_folder", "read_series", "read_series_uid"]

_SERIES, _INSTANCE, _PATIENT = "0020|000e", "0008|0018", "0010|0020"
_GEOMETRY = {"0020|0032": "position", "0020|0037": "orientation", "0028|0030": "pixel spacing"}
_SAME_MM = 0.01
_ROUNDED_MM = 0.11  # scanners that write positions in tenths of a millimetre make gaps differ by one


class DicomSeries(NamedTuple):
    """A volume in DICOM files, one per slice.

    Attributes:
        folder: that holds the files.
        files: in the order of their positions along the slices' normal.
        uid: SeriesInstanceUID.
        instance_uids: SOPInstanceUID of each file.
        patient: PatientID, may be empty.
        shape: voxels along (column i, row j, slice k).
        affine: voxel (i, j, k) to RAS mm, (4, 4).
    """

    folder: Path
    files: tuple[Path, ...]
    uid: str
    instance_uids: tuple[str, ...]
    patient: str
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


def is_dicom_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether the folder itself, not one below it, holds a DICOM file. Hidden files do not count."""
    path = Path(path)
    return path.is_dir() and any(_is_dicom(file) for file in path.iterdir())


def read_series_uid(folder: str | os.PathLike[str]) -> str:
    """Read the SeriesInstanceUID of the folder's first DICOM file.

    Raises:
        ValueError: if the folder holds no DICOM file, or the first is not readable.
    """
    return _tag(_read_header(_files(Path(folder))[0]), _SERIES)


def read_series(folder: str | os.PathLike[str]) -> DicomSeries:
    """Read the headers of a series and check that its slices make one volume.

    The slices' positions count, not the names of the files. Slices missing at either end of the volume leave no trace
    in the others and are not found.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the folder holds no DICOM file, one that is not readable, several series or a single slice; if
            slices differ in size, spacing or direction, have no position, share one or are shifted sideways; or if
            their distances differ by more than 1 %, as they do where one is missing.

    Example:
        >>> read_series("imagesTs/patient_1").shape
        (16, 12, 8)
    """
    folder = Path(folder)
    slices = [_read_slice(file) for file in _files(folder)]
    _check_one_series(folder, slices)
    _check_alike(folder, slices)
    first = slices[0]
    normal = first.direction[:, 2]
    slices.sort(key=lambda x: float(x.origin @ normal))
    _check_positions(folder, slices, normal)
    step = (slices[-1].origin - slices[0].origin) @ normal / (len(slices) - 1)
    affine = np.eye(4)
    affine[:3, :3] = first.direction * [*first.spacing, step]
    affine[:3, 3] = slices[0].origin
    return DicomSeries(
        folder=folder,
        files=tuple(x.file for x in slices),
        uid=first.series_uid,
        instance_uids=tuple(x.instance_uid for x in slices),
        patient=first.patient,
        shape=(*first.size, len(slices)),
        affine=orientation_ras_lps(affine),
    )


class _Slice(NamedTuple):
    """What the header of one file says, in DICOM's LPS mm."""

    file: Path
    series_uid: str
    instance_uid: str
    patient: str
    size: tuple[int, int]
    spacing: NDArray[np.float64]
    origin: NDArray[np.float64]
    direction: NDArray[np.float64]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the one that holds the DICOM files of a series.")
    files = sorted(file for file in folder.iterdir() if _is_dicom(file))
    if not files:
        raise ValueError(f"{folder} holds no DICOM file; give the folder that holds the slices of a series itself.")
    return files


def _is_dicom(file: Path) -> bool:
    """Trust the ending, since a file cut off before its magic number must be reported and not passed over."""
    if file.name.startswith(".") or not file.is_file():
        return False
    if file.suffix.lower() == ".dcm":
        return True
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _read_header(file: Path) -> Any:
    header = itk.GDCMImageIO.New(FileName=str(file))
    try:
        header.ReadImageInformation()
    except RuntimeError as e:
        raise ValueError(f"{file} is cut off or no DICOM image; copy it anew, or move it out of the folder.") from e
    return header


def _read_slice(file: Path) -> _Slice:
    header = _read_header(file)
    if header.GetDimensions(2) > 1:
        raise ValueError(f"{file} holds {header.GetDimensions(2)} slices; give a series of one slice a file, or NIfTI.")
    missing = [name for tag, name in _GEOMETRY.items() if not _tag(header, tag)]
    if missing:
        raise ValueError(f"{file} has no {' and no '.join(missing)}, so its place is unknown; move it away.")
    return _Slice(
        file=file,
        series_uid=_tag(header, _SERIES),
        instance_uid=_tag(header, _INSTANCE),
        patient=_tag(header, _PATIENT),
        size=(header.GetDimensions(0), header.GetDimensions(1)),
        spacing=np.array([header.GetSpacing(axis) for axis in range(2)]),
        origin=np.array([header.GetOrigin(axis) for axis in range(3)]),
        direction=np.array([header.GetDirection(axis) for axis in range(3)]).T,
    )


def _tag(header: Any, key: str) -> str:
    tags = header.GetMetaDataDictionary()  # points into the header and must not outlive it
    return tags[key].strip(" \0") if tags.HasKey(key) else ""


def _check_one_series(folder: Path, slices: list[_Slice]) -> None:
    counts = Counter(x.series_uid for x in slices)
    if len(counts) > 1:
        found = ", ".join(f"{uid} ({count} files)" for uid, count in counts.items())
        raise ValueError(f"{folder} holds {len(counts)} series: {found}; move each into a folder of its own.")
    if len(slices) < 2:
        raise ValueError(f"{folder} holds a single slice, {slices[0].file.name}; a volume needs 2 or more.")


def _check_alike(folder: Path, slices: list[_Slice]) -> None:
    first = slices[0]
    for other in slices[1:]:
        for name, one, two in (
            ("size", first.size, other.size),
            ("pixel spacing", first.spacing, other.spacing),
            ("direction", first.direction, other.direction),
        ):
            if not np.allclose(one, two, atol=1e-4):
                raise ValueError(
                    f"{folder} holds slices of different {name}: {first.file.name} has {_text(one)}, "
                    f"{other.file.name} has {_text(two)}; keep those of one volume."
                )


def _check_positions(folder: Path, slices: list[_Slice], normal: NDArray[np.float64]) -> None:
    """Check slices that are in order: each has its own place, at equal distances, straight above the first."""
    origins = np.array([x.origin for x in slices])
    places = origins @ normal
    gaps = np.diff(places)
    least, most, usual = int(gaps.argmin()), int(gaps.argmax()), float(np.median(gaps))
    if gaps[least] < _SAME_MM:
        names = f"{slices[least].file.name} and {slices[least + 1].file.name}"
        raise ValueError(f"{folder} holds two slices at {places[least]:g} mm, {names}; keep one for each position.")
    odd = most if gaps[most] - usual >= usual - gaps[least] else least
    if abs(gaps[odd] - usual) > max(0.01 * usual, _ROUNDED_MM):
        raise ValueError(
            f"{folder} misses slices or has them unevenly spaced: from {places[odd]:g} mm ({slices[odd].file.name}) to "
            f"{places[odd + 1]:g} mm ({slices[odd + 1].file.name}) it is {gaps[odd]:g} mm, elsewhere {usual:g} mm; "
            "copy the whole series anew."
        )
    sideways = np.abs((origins - origins[0]) @ slices[0].direction[:, :2])
    if (sideways > slices[0].spacing / 2).any():
        raise ValueError(
            f"{folder} has slices shifted sideways by up to {sideways.max():g} mm, as a tilted gantry makes them; "
            "resample the series to an upright volume first."
        )


def _text(values: Any) -> str:
    return " ".join(f"{value:g}" for value in np.ravel(values))
