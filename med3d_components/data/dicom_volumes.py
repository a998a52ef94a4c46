"""Sort the slices of DICOM files into volumes, check that each is one, and read its voxels.

A volume is what its slices' positions say, whatever the files are called, in whichever folders they lie.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from monai.data.utils import orientation_ras_lps
from nibabel.affines import from_matvec
from numpy.typing import NDArray
from scipy import ndimage

from med3d_components.data.dicom_files import Frame, Slice, join, read_frames

__all__ = [
    "DicomSeries",
    "Part",
    "assemble",
    "check_one_study",
    "folder_of",
    "series_name",
    "sort_series",
    "study_of",
]

_SAME_MM = 0.01
_ROUNDED_MM = 0.11  # scanners that write positions in tenths of a millimetre make gaps differ by one
_PLANES = 3  # slices of a localizer, often, each of another direction
_OTHER_DIRECTION = 0.1  # in a cosine: what differs less is one direction that was written badly
_MOST_TIMES = 8  # as many voxels as were taken, in a volume that is resampled


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
    frames: tuple[Frame, ...] = field(repr=False)
    grid: _Grid | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Name for results: the UID and the part, which are no patient's name."""
        return series_name(self.uid or self.frames[0].instance_uid or self.folder.name, self.part)

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
            >>> from med3d_components.data.dicom import read_series
            >>> read_series("imagesTs/patient_1").read((slice(2, 6), slice(0, 12), slice(3, 4))).shape
            (4, 12, 1)
        """
        columns, rows, slices = (range(length)[part] for length, part in zip(self.shape, box, strict=True))
        out = np.empty((len(slices), len(rows), len(columns)), np.float32)
        planes = (
            read_frames([self.frames[k] for k in slices], self.shape[1::-1])
            if self.grid is None
            else _resample(self.frames, self.grid, slices, self.shape[1::-1])
        )
        for to, plane in zip(out, planes, strict=True):
            to[:] = plane[rows.start : rows.stop, columns.start : columns.stop]
        return out.T


def series_name(uid: str, part: str) -> str:
    """Return the name of a volume, which is safe in a path."""
    return re.sub(r"[^-.0-9A-Za-z]+", "_", f"{uid}_{part}" if part else uid).lstrip(".")


class Part(NamedTuple):
    """Slices that are a volume in the order they have, or that should be one, with what is wrong."""

    slices: list[Slice]
    name: str = ""
    error: str = ""


def sort_series(slices: list[Slice], resample: bool, passed: dict[str, list[Path]]) -> list[Part]:
    """Sort the slices of one UID into volumes, and what is none among them into ``passed``."""
    known: dict[tuple[str | Path, int], Slice] = {}
    copies = []
    for one in slices:
        first = known.setdefault((one.frame.instance_uid or one.frame.file, one.frame.number), one)
        if first is not one:
            copies.append((first, one))
    _check_copies(copies)
    passed["copy of a slice"] += [one.frame.file for _, one in copies]
    directions: list[list[Slice]] = []
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


def study_of(one: Slice) -> tuple[str, str]:
    """Return the study, or the folder where it has no UID, and the patient."""
    return one.study or str(one.frame.file.parent), one.patient


def check_one_study(slices: Iterable[Slice]) -> None:
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


def _check_copies(pairs: Sequence[tuple[Slice, Slice]]) -> None:
    """Refuse slices of one SOPInstanceUID that differ in place or voxels, in whichever way these are packed."""
    for one, other in pairs:
        if one._replace(frame=other.frame, study=other.study, patient=other.patient) != other:
            raise _twins_error(one, other, "headers")
    for size, some in groupby(pairs, key=lambda pair: pair[0].size):
        group = list(some)
        planes = (read_frames([pair[side].frame for pair in group], size[::-1]) for side in (0, 1))
        for (one, other), *two in zip(group, *planes, strict=True):
            if not np.array_equal(*two):
                raise _twins_error(one, other, "voxels")


def _twins_error(one: Slice, other: Slice, what: str) -> ValueError:
    return ValueError(
        f"{one.frame.file} and {other.frame.file} have one SOPInstanceUID, but their {what} differ; keep the files of "
        "one of the two, or give each a UID of its own."
    )


def _plane(one: Slice) -> str:
    return ("sagittal", "coronal", "axial")[int(np.abs(_axes(one)[:, 2]).argmax())]


def _axes(one: Slice) -> NDArray[np.float64]:
    """Return the directions of columns' numbers, rows' numbers and slices, (3, 3)."""
    along, across = np.reshape(one.orientation, (2, 3))
    axes = np.stack([along, across, np.cross(along, across)], axis=1)
    return axes / np.linalg.norm(axes, axis=0)


def _split(slices: list[Slice], name: str, resample: bool) -> list[Part]:
    """Sort slices of one direction into volumes by what tells those at one position apart."""
    try:
        return [Part(_in_order(slices, resample), name)]
    except ValueError as e:
        error = str(e)
        if not isinstance(e, _RepeatedError):
            return [Part(slices, name, error)]
    tags = [dict(one.tags) for one in slices]
    every = dict.fromkeys(label for some in tags for label in some)
    labels = [label for label in every if 1 < len({some.get(label) for some in tags}) <= len(slices) // 2]
    for chosen in (chosen for count in (1, 2, 3) for chosen in combinations(labels, count)):
        groups: dict[str, list[Slice]] = defaultdict(list)
        for one, some in zip(slices, tags, strict=True):
            groups[" ".join([name, *(f"{label} {some.get(label, 'none')}" for label in chosen)]).strip()].append(one)
        if min(map(len, groups.values())) > 1 and len({series_name("", key) for key in groups}) == len(groups):
            try:
                return [Part(_in_order(group, resample), key) for key, group in groups.items()]
            except ValueError:
                continue
    return [Part(slices, name, error)]


class _RepeatedError(ValueError):
    """Two slices share a position."""


def _in_order(slices: list[Slice], resample: bool) -> list[Slice]:
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
            f"{folder_of(slices)} holds two slices at {places[least]:g} mm, {slices[least].frame} and "
            f"{slices[least + 1].frame}, and no tag tells volumes apart; keep one for each position."
        )
    if not resample:
        _check_upright(slices)
    return slices


def folder_of(slices: Iterable[Slice]) -> Path:
    """Return the deepest folder that holds all the files."""
    return Path(os.path.commonpath([one.frame.file.parent for one in slices]))


def _places(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """Return the slices' origins in mm along the directions of the first, (N, 3)."""
    return np.array([one.origin for one in slices]) @ _axes(slices[0])


def _check_alike(slices: Sequence[Slice]) -> None:
    first = slices[0]
    for key, name in (("size", "size"), ("spacing", "pixel spacing"), ("orientation", "direction")):
        values = np.array([getattr(one, key) for one in slices])
        unlike = ~np.isclose(values, values[0], atol=1e-4).all(axis=1)
        if unlike.any():
            other = int(unlike.argmax())
            raise ValueError(
                f"{folder_of(slices)} holds slices of different {name}: {first.frame} has {join(values[0])}, "
                f"{slices[other].frame} has {join(values[other])}; keep those of one volume."
            )


def _check_upright(slices: Sequence[Slice]) -> None:
    """Check slices that are in order: they lie at equal distances, straight above the first."""
    places = _places(slices)
    gaps = np.diff(places[:, 2])
    if not len(gaps):
        return
    least, most, usual = int(gaps.argmin()), int(gaps.argmax()), float(np.median(gaps))
    odd = most if gaps[most] - usual >= usual - gaps[least] else least
    if abs(gaps[odd] - usual) > max(0.01 * usual, _ROUNDED_MM):
        raise ValueError(
            f"{folder_of(slices)} misses slices or has them unevenly spaced: from {places[odd, 2]:g} mm "
            f"({slices[odd].frame}) to {places[odd + 1, 2]:g} mm ({slices[odd + 1].frame}) it is {gaps[odd]:g} mm, "
            f"elsewhere {usual:g} mm; copy the whole series anew, or resample it."
        )
    sideways = np.abs(places[:, :2] - places[0, :2])
    if (sideways > np.divide(slices[0].spacing, 2)).any():
        raise ValueError(
            f"{folder_of(slices)} has slices shifted sideways by up to {sideways.max():g} mm, as a tilted gantry makes "
            "them; resample the series to an upright volume first."
        )


def assemble(path: str, part: Part) -> DicomSeries:
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
        folder=folder_of(part.slices),
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
    frames: Sequence[Frame], grid: _Grid, slices: range, size: tuple[int, int]
) -> Iterator[NDArray[np.float64]]:
    """Interpolate planes linearly between the nearest two slices, each moved to its place in the plane."""
    if not slices:
        return
    above = np.clip(np.searchsorted(grid.places, slices), 1, len(grid.places) - 1)
    weights = (np.asarray(slices) - grid.places[above - 1]) / (grid.places[above] - grid.places[above - 1])
    needed = range(int(above[0]) - 1, int(above[-1]) + 1)
    planes = zip(needed, read_frames([frames[k] for k in needed], grid.size), strict=True)
    moved: dict[int, NDArray[np.float64]] = {}
    for k, weight in zip(above.tolist(), np.clip(weights, 0, 1).tolist(), strict=True):
        while k not in moved:
            number, plane = next(planes)
            moved = {old: moved[old] for old in moved if old == number - 1}
            moved[number] = ndimage.affine_transform(
                plane, np.ones(2), -grid.shifts[number], size, order=1, mode="constant", cval=grid.fill
            )
        yield (1 - weight) * moved[k - 1] + weight * moved[k]
