"""Find which outlines of LIDC-IDRI's readers are the same nodule: the files do not tell."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.affines import from_matvec
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist

from med3d_components.data.dicom import DicomSeries
from med3d_components.prepare.lidc_outlines import Outline, place_readings
from med3d_components.prepare.lidc_xml import Report

__all__ = ["Nodule", "find_nodules", "join_outlines"]

_SAME = 0.3  # Dice from which two outlines are of the same nodule, wherever their centres are
_MARGIN = 3  # voxels around a nodule in its mask

_log = logging.getLogger(__name__)


class Nodule(NamedTuple):
    """A nodule with one outline of each reader who saw it, in the order of the readers."""

    outlines: tuple[Outline, ...]

    @property
    def malignancy(self) -> list[int]:
        """One score per reader."""
        return [outline.malignancy for outline in self.outlines]

    @property
    def centre(self) -> NDArray[np.float64]:
        """Mean of the outlines' centres in RAS mm, (3,)."""
        return np.asarray(np.mean([outline.centre for outline in self.outlines], axis=0))

    def mask(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Return the voxels that at least half of the readers outlined, cropped, and the affine of the crop."""
        series = self.outlines[0].series
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

    Warns where a reader outlined a nodule several times.

    Raises:
        ValueError: if the outlines do not fit the series, or one leaves no voxel.
    """
    nodules = []
    for members in join_outlines(place_readings(report, series)):
        by_reader: dict[int, list[Outline]] = defaultdict(list)
        for outline in members:
            by_reader[outline.reader].append(outline)
        outlines = (_unite(by_reader[reader], report.file) for reader in sorted(by_reader))
        nodules.append(Nodule(tuple(outlines)))
    return nodules


def join_outlines(outlines: Sequence[Outline]) -> list[list[Outline]]:
    """Join the outlines of each nodule of a series.

    Outlines of one reader whose Dice is 0.3 or more are one, drawn twice. Outlines of two readers are of one nodule if
    their Dice is 0.3 or more, or their centres no further apart than the larger one's radius, as spheres of their
    volumes. The most alike are joined first, and none that would give a reader a second outline in a nodule. At last,
    nodules join of which outlines have a Dice of 0.3 or more, if no more than half of their readers outlined both:
    these drew in pieces what the others drew as one.

    Returns:
        Groups of outlines, with as many of one reader as the reader made of the nodule.
    """
    if not outlines:
        return []
    readers = np.array([outline.reader for outline in outlines])
    same_reader = readers[:, None] == readers
    dice = _dice([outline.voxels for outline in outlines])
    overlapping = dice >= _SAME
    distances, near = _distances(outlines)
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


def _distances(outlines: Sequence[Outline]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return how far the centres of each two outlines are apart in mm, and whether no more than the larger's radius."""
    centres = np.array([outline.centre for outline in outlines])
    radii = np.array([outline.radius for outline in outlines])
    distances = cdist(centres, centres)
    return distances, distances <= np.maximum.outer(radii, radii)


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
