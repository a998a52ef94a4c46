"""Find the volumes in folders of DICOM files, whatever else is among them.

``dicom_files.py`` reads a file, ``dicom_volumes.py`` makes volumes of the slices.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import itk

from med3d_components.data.dicom_files import Slice, is_dicom_file, quiet, read_file
from med3d_components.data.dicom_volumes import (
    DicomSeries,
    Part,
    assemble,
    check_one_study,
    folder_of,
    series_name,
    sort_series,
    study_of,
)

__all__ = [
    "DicomSeries",
    "FoundSeries",
    "find_series",
    "is_dicom_folder",
    "read_series",
    "walk_files",
]

_KEPT = 4096  # series whose headers stay in memory


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


def _find(files: Iterable[Path], resample: bool, keep_single: bool = False) -> FoundSeries:
    """Sort files into volumes."""
    slices: dict[str, list[Slice]] = defaultdict(list)
    broken: dict[str, tuple[Path, str]] = {}
    lost: list[tuple[Path, str]] = []
    passed: dict[str, list[Path]] = defaultdict(list)
    with quiet():
        for file in files:
            content = read_file(file)
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
            check_one_study(some)
            parts += sort_series(some, resample, passed)
        except ValueError as e:
            parts.append(Part(some, error=str(e)))
    if not keep_single:
        whole = {study_of(x) for part in parts if len(part.slices) > 1 for x in part.slices}
        strays = [len(part.slices) == 1 and not part.error and study_of(part.slices[0]) in whole for part in parts]
        passed["single slice"] += [x.slices[0].frame.file for x, stray in zip(parts, strays, strict=True) if stray]
        parts = [part for part, stray in zip(parts, strays, strict=True) if not stray]
    owners = Counter(folder for part in parts for folder in {x.frame.file.parent for x in part.slices})
    found = []
    for part in parts:
        first, folder = part.slices[0], folder_of(part.slices)
        uid = first.series_uid or first.frame.instance_uid or folder.name
        alone = owners[folder] == 1 and all(x.frame.file.parent == folder for x in part.slices)
        path = str(folder) if alone else f"{folder}::{series_name(uid, part.name)}"
        try:
            if part.error:
                raise ValueError(part.error)
            found.append(assemble(path, part))
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
