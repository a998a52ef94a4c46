"""Find which outlines of LIDC-IDRI's readers are the same nodule: the files do not tell."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist

from med3d_components.data.dicom import DicomSeries
from med3d_components.prepare.lidc_xml import Contour, Reading, Report

__all__ = ["Nodule", "Outline", "find_nodules", "join_outlines", "place_readings"]

_SAME = 0.3  # Dice from which two outlines are of the same nodule, wherever their centres are
_MARGIN = 3  # voxels around a nodule in its mask

_log = logging.getLogger(__name__)


class Outline(NamedTuple):
    """A nodule as one reader saw it, in the voxels of its series.

    Attributes:
        reader: number of the reading session.
        name: that the reader's file gives the nodule.
        malignancy: 1 to 5.
        voxels: flat indices into the series, sorted, (N,).
    """

    reader: int
    name: str
    malignancy: int
    voxels: NDArray[np.int64]


class Nodule(NamedTuple):
    """A nodule with one outline of each reader who saw it, in the order of the readers."""

    outlines: tuple[Outline, ...]

    @property
    def malignancy(self) -> list[int]:
        """One score per reader."""
        return [outline.malignancy for outline in self.outlines]

    def centre(self, series: DicomSeries) -> NDArray[np.float64]:
        """Return the mean of the outlines' centres in RAS mm, (3,)."""
        return np.mean([_centre(outline, series.shape, series.affine) for outline in self.outlines], axis=0)

    def mask(self, series: DicomSeries) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Return the voxels that at least half of the readers outlined, cropped, and the affine of the crop."""
        voxels, votes = np.unique(np.concatenate([x.voxels for x in self.outlines]), return_counts=True)
        voxels = voxels[votes >= min(len(self.outlines) / 2, votes.max())]  # outlines may miss each other
        index = np.stack(np.unravel_index(voxels, series.shape))
        low = np.maximum(index.min(axis=1) - _MARGIN, 0)
        high = np.minimum(index.max(axis=1) + 1 + _MARGIN, series.shape)
        mask = np.zeros(high - low, np.uint8)
        mask[tuple(index - low[:, None])] = 1
        return mask, series.affine @ from_matvec(np.eye(3), low)


def find_nodules(report: Report, series: DicomSeries) -> list[Nodule]:
    """Return the nodules of a series, in the order of its report.

    Warns where a reader outlined a nodule several times with different scores.

    Raises:
        ValueError: if the outlines do not fit the series, or one leaves no voxel.
    """
    nodules = []
    for members in join_outlines(place_readings(report, series), series.shape, series.affine):
        by_reader: dict[int, list[Outline]] = defaultdict(list)
        for outline in members:
            by_reader[outline.reader].append(outline)
        outlines = (_unite(by_reader[reader], report.file) for reader in sorted(by_reader))
        nodules.append(Nodule(tuple(outlines)))
    return nodules


def place_readings(report: Report, series: DicomSeries) -> list[Outline]:
    """Return the readings as voxels of their series.

    A contour lies in the slice of its SOPInstanceUID, or, where the report gives that slice several heights, in the one
    at the contour's height. Holes are left out.

    Raises:
        ValueError: if a contour lies outside the series, or a reading leaves no voxel.
    """
    slices = _Slices(report, series)
    return [Outline(x.reader, x.name, x.malignancy, _voxels(x, slices)) for x in report.readings]


class _Slices:
    """The slices of a series as a report calls them."""

    def __init__(self, report: Report, series: DicomSeries) -> None:
        self.file, self.series = report.file, series
        self._numbers = {uid: number for number, uid in enumerate(series.instance_uids)}
        self._heights = series.affine[2, 3] + series.affine[2, 2] * np.arange(series.shape[2])
        self._tolerance = np.linalg.norm(series.affine[:3, 2]) / 4
        heights: dict[str, set[float]] = defaultdict(set)
        for reading in report.readings:
            for contour in reading.contours:
                heights[contour.instance_uid].add(contour.height)
        self._ambiguous = {uid for uid, some in heights.items() if len(some) > 1}
        for uid in sorted(self._ambiguous):
            places = " and ".join(f"{height:g}" for height in sorted(heights[uid]))
            _log.warning("%s: slice %s is said to lie at %s mm; its outlines go by the height.", self.file, uid, places)

    def number(self, contour: Contour) -> int:
        """Return the number of a contour's slice, from 0."""
        number = self._numbers.get(contour.instance_uid)
        if number is not None and contour.instance_uid in self._ambiguous:
            distances = np.abs(self._heights - contour.height)
            number = int(distances.argmin()) if distances.min() < self._tolerance else None
        if number is None:
            raise ValueError(
                f"{self.file} outlines slice {contour.instance_uid} at {contour.height:g} mm, which "
                f"{self.series.path} does not hold; copy the series anew."
            )
        return number


def _voxels(reading: Reading, slices: _Slices) -> NDArray[np.int64]:
    """Return the voxels of a nodule without its holes, as sorted flat indices into the series, (N,)."""
    nodule, holes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for contour in reading.contours:
        (nodule if contour.included else holes).append(_flat(contour, slices))
    voxels = np.setdiff1d(np.concatenate(nodule), np.concatenate(holes))
    if not voxels.size:
        raise ValueError(f"{slices.file} has a nodule of reader {reading.reader + 1} without a voxel; correct it.")
    return voxels


def _flat(contour: Contour, slices: _Slices) -> NDArray[np.int64]:
    number, (columns, rows) = slices.number(contour), contour.pixels().T
    try:
        return np.ravel_multi_index((columns, rows, np.full_like(rows, number)), slices.series.shape)
    except ValueError as e:
        size = " x ".join(map(str, slices.series.shape[:2]))
        raise ValueError(f"{slices.file} has an outline beyond the {size} pixels of its series.") from e


def join_outlines(
    outlines: Sequence[Outline], shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> list[list[Outline]]:
    """Join the outlines of each nodule.

    Outlines of one reader whose Dice is 0.3 or more are one, drawn twice. Outlines of two readers are of one nodule if
    their Dice is 0.3 or more, or their centres no further apart than the larger one's radius, as spheres of their
    volumes. The most alike are joined first, and none that would give a reader a second outline in a nodule. At last,
    nodules join of which outlines have a Dice of 0.3 or more, if no more than half of their readers outlined both:
    these drew in pieces what the others drew as one.

    Args:
        outlines: of one series.
        shape: of the series in voxels.
        affine: voxel to RAS mm, (4, 4).

    Returns:
        Groups of outlines, as often of one reader as the reader outlined the nodule.
    """
    if not outlines:
        return []
    readers = np.array([outline.reader for outline in outlines])
    same_reader = readers[:, None] == readers
    dice = _dice([outline.voxels for outline in outlines])
    overlapping = dice >= _SAME
    distances, near = _distances(outlines, shape, affine)
    groups = DisjointSet(range(len(outlines)))

    def readers_of(member: int) -> set[int]:
        return set(readers[list(groups.subset(member))].tolist())

    for one, other in _pairs(overlapping & same_reader, dice, distances):
        groups.merge(one, other)
    for one, other in _pairs((overlapping | near) & ~same_reader, dice, distances):
        if readers_of(one).isdisjoint(readers_of(other)):
            groups.merge(one, other)
    for one, other in _pairs(overlapping & ~same_reader, dice, distances):
        first, second = readers_of(one), readers_of(other)
        if 2 * len(first & second) <= len(first | second):
            groups.merge(one, other)
    return [[outlines[member] for member in group] for group in sorted(map(sorted, groups.subsets()))]


def _dice(voxels: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return the Dice of each two sets of voxels, (N, N)."""
    sizes = [len(some) for some in voxels]
    distinct, columns = np.unique(np.concatenate(voxels), return_inverse=True)
    ends = np.cumsum([0, *sizes])
    member = csr_array((np.ones(ends[-1], np.int64), columns, ends), shape=(len(voxels), len(distinct)))
    return 2 * (member @ member.T).toarray() / np.add.outer(sizes, sizes)


def _distances(
    outlines: Iterable[Outline], shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return how far the centres of each two outlines are apart in mm, and whether no more than the larger's radius."""
    centres = np.array([_centre(outline, shape, affine) for outline in outlines])
    volumes = np.array([outline.voxels.size for outline in outlines]) * abs(np.linalg.det(affine))
    radii = np.cbrt(3 * volumes / (4 * np.pi))
    distances = cdist(centres, centres)
    return distances, distances <= np.maximum.outer(radii, radii)


def _centre(outline: Outline, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    index = np.stack(np.unravel_index(outline.voxels, shape), axis=1)
    return np.asarray(apply_affine(affine, index.mean(axis=0)))


def _pairs(
    wanted: NDArray[np.bool_], dice: NDArray[np.float64], distances: NDArray[np.float64]
) -> Iterator[tuple[int, int]]:
    """Iterate over the wanted pairs, from the highest Dice down, and of equal ones from the nearest on."""
    pairs = np.argwhere(np.triu(wanted, 1))
    order = np.lexsort((distances[tuple(pairs.T)], -dice[tuple(pairs.T)]))
    yield from map(tuple, pairs[order].tolist())


def _unite(outlines: Sequence[Outline], file: Path) -> Outline:
    """Return a reader's outlines of one nodule as one, with the score of the largest."""
    largest = max(outlines, key=lambda outline: outline.voxels.size)
    if len(outlines) > 1:
        _log.warning(
            "%s: reader %d outlined one nodule %d times: %s. They count once, with the malignancy of the largest, %d.",
            file,
            largest.reader + 1,
            len(outlines),
            " and ".join(f"{x.name} (malignancy {x.malignancy}, {x.voxels.size} voxels)" for x in outlines),
            largest.malignancy,
        )
    return largest._replace(voxels=reduce(np.union1d, [outline.voxels for outline in outlines]))
