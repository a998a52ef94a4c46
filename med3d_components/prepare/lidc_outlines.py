"""Place the readers' outlines of LIDC-IDRI in the voxels of their CT series."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from med3d_components.data.dicom import DicomSeries
from med3d_components.prepare.lidc_xml import Contour, Reading, Report

__all__ = ["Outline", "place_readings"]

_log = logging.getLogger(__name__)


class Outline(NamedTuple):
    """A nodule as one reader saw it, in the voxels of its series.

    Attributes:
        series: that it lies in.
        reader: number of the reading session.
        name: that the reader's file gives the nodule.
        malignancy: 1 to 5.
        voxels: flat indices into the series, sorted, (N,).
    """

    series: DicomSeries
    reader: int
    name: str
    malignancy: int
    voxels: NDArray[np.int64]

    @property
    def centre(self) -> NDArray[np.float64]:
        """Mean place of the voxels in RAS mm, (3,)."""
        index = np.stack(np.unravel_index(self.voxels, self.series.shape), axis=1)
        return np.asarray(apply_affine(self.series.affine, index.mean(axis=0)))

    @property
    def radius(self) -> float:
        """Radius in mm of a sphere of the same volume."""
        volume = self.voxels.size * abs(np.linalg.det(self.series.affine))
        return float(np.cbrt(3 * volume / (4 * np.pi)))


def place_readings(report: Report, series: DicomSeries) -> list[Outline]:
    """Return the readings as voxels of their series.

    A contour lies in the slice of its SOPInstanceUID; where the series does not hold that one, or the report gives it
    several heights, in the slice at the contour's height, with a warning. Holes are left out.

    Raises:
        ValueError: if a contour lies outside the series, or a reading leaves no voxel.
    """
    slices = _Slices(report, series)
    return [Outline(series, x.reader, x.name, x.malignancy, _voxels(x, slices)) for x in report.readings]


class _Slices:
    """The slices of a series as a report calls them."""

    def __init__(self, report: Report, series: DicomSeries) -> None:
        self.file, self.series = report.file, series
        self._numbers = {uid: number for number, uid in enumerate(series.instance_uids)}
        self._heights = series.affine[2, 3] + series.affine[2, 2] * np.arange(series.shape[2])
        self._tolerance = np.linalg.norm(series.affine[:3, 2]) / 4
        heights: dict[str, set[float]] = defaultdict(set)
        for contour in (contour for reading in report.readings for contour in reading.contours):
            heights[contour.instance_uid].add(contour.height)
        for uid, some in sorted(heights.items()):
            if len(some) > 1 and self._numbers.pop(uid, None) is not None:
                places = " and ".join(f"{height:g}" for height in sorted(some))
                _log.warning("%s: slice %s is said to lie at %s mm; it goes by the height.", self.file, uid, places)
                del heights[uid]
        if unknown := sorted(heights.keys() - self._numbers.keys()):
            _log.warning(
                "%s: %d of the %d slices that it outlines have a UID that %s does not hold, the first is %s; they go "
                "by the height.",
                *(self.file, len(unknown), len(heights), series.path, unknown[0]),
            )

    def number(self, contour: Contour) -> int:
        """Return the number of a contour's slice, from 0."""
        if contour.instance_uid in self._numbers:
            return self._numbers[contour.instance_uid]
        distances = np.abs(self._heights - contour.height)
        if distances.min() > self._tolerance:
            raise ValueError(
                f"{self.file} outlines slice {contour.instance_uid} at {contour.height:g} mm, which "
                f"{self.series.path} does not hold; copy the series anew."
            )
        return int(distances.argmin())


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
