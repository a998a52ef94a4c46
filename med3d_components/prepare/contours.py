"""Fill contours on the grid of a scan.

A voxel is inside where its centre is. A contour within another one is a hole, and one in that an island; contours that
cross are joined. A slice takes the contours of the plane nearest to it, no further than half a slice away, or than half
the distance of the contours where these were drawn on every second or third slice.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["fill_contours", "fill_polygon", "reach_outside"]

logger = logging.getLogger(__name__)

_SAME_MM = 0.1
_TILT = 0.5  # of a slice, within one contour
_INSIDE = 0.95  # of its voxels, for a contour to be a hole of another
_SPARSE_MM = 12.0  # between contours that belong together, at most
_SPARSE_PLANES = 4  # which are needed to tell that a structure was drawn on every second or third slice
_HALF = 1e-3  # of a slice, so that rounding does not decide between two slices

_Plane = tuple[float, list[NDArray[np.float64]]]


def fill_contours(
    what: str, polygons: list[NDArray[np.float64]], shape: tuple[int, int, int], step: float
) -> NDArray[np.bool_]:
    """Fill the contours of a structure.

    Args:
        what: the structure, for messages.
        polygons: (points, 3) each, in voxels whose centres are whole numbers; closed, and parallel to the slices.
        shape: of the grid, (x, y, slices).
        step: between slices, in mm.

    Returns:
        Which voxels are inside; what lies outside the grid is cut off, see :func:`reach_outside`.

    Raises:
        ValueError: if a contour is not parallel to the slices.

    Example:
        >>> square = np.array([[0.5, 0.5, 1], [0.5, 2.5, 1], [2.5, 2.5, 1], [2.5, 0.5, 1]])
        >>> fill_contours("liver", [square], (4, 4, 3), step=2.5).sum(axis=(0, 1)).tolist()
        [0, 4, 0]
    """
    region = np.zeros(shape, bool)
    if not polygons:
        return region
    _check_flat(what, polygons)
    lower, upper = _box(polygons, shape)
    planes = _planes([polygon - (*lower[:2], 0) for polygon in polygons], step)
    places = np.array([place for place, _ in planes])
    reach = _reach(what, places, step)
    rows, columns = (slice(a, b) for a, b in zip(lower[:2], upper[:2], strict=True))
    for k in range(shape[2]):
        away = k - places
        near = np.flatnonzero((away >= -reach - _HALF) & (away < reach - _HALF))
        if len(near):
            nearest = planes[near[np.abs(away[near]).argmin()]][1]
            region[rows, columns, k] = _fill_plane(nearest, region[rows, columns, k].shape)
    return region


def reach_outside(polygons: list[NDArray[np.float64]], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return how far contours reach beyond the outer faces of a grid, in voxels along each axis; 0 if they do not.

    Args:
        polygons: as :func:`fill_contours` takes them.
        shape: of the grid.

    Example:
        >>> reach_outside([np.array([[-2.5, 0, 1], [3, 0, 1], [3, 3.5, 1]])], (4, 4, 3)).tolist()
        [2.0, 0.0, 0.0]
    """
    if not polygons:
        return np.zeros(3)
    points = np.concatenate(polygons)
    beyond: NDArray[np.float64] = np.maximum(-0.5 - points.min(axis=0), points.max(axis=0) - np.subtract(shape, 0.5))
    return np.maximum(beyond, 0)


def _check_flat(what: str, polygons: list[NDArray[np.float64]]) -> None:
    tilt = max(float(np.ptp(polygon[:, 2])) for polygon in polygons)
    if tilt > _TILT:
        raise ValueError(
            f"{what} has a contour that crosses {tilt:.1f} slices of its scan; export it with contours on the slices."
        )


def _box(polygons: list[NDArray[np.float64]], shape: tuple[int, int, int]) -> tuple[list[int], list[int]]:
    """Return the first voxel that contours may reach, and the one after the last."""
    points = np.concatenate(polygons)
    lower = np.clip(np.floor(points.min(axis=0)), 0, shape)
    upper = np.clip(np.ceil(points.max(axis=0)) + 1, 0, shape)
    return lower.astype(int).tolist(), upper.astype(int).tolist()


def _planes(polygons: list[NDArray[np.float64]], step: float) -> list[_Plane]:
    """Gather the contours of each plane, in order; places are in slices."""
    planes: list[_Plane] = []
    for place, polygon in sorted(((float(x[:, 2].mean()), x) for x in polygons), key=lambda pair: pair[0]):
        if not planes or (place - planes[-1][0]) * step > _SAME_MM:
            planes.append((place, []))
        planes[-1][1].append(polygon[:, :2])
    return planes


def _reach(what: str, places: NDArray[np.float64], step: float) -> float:
    """Return how far, in slices, a contour stands for the space above and below it."""
    gaps = np.diff(places)
    usual = float(np.median(gaps)) if len(gaps) else 1.0
    even = len(places) >= _SPARSE_PLANES and np.isclose(gaps, usual, rtol=0.1).mean() >= 0.75
    if usual < 1.5 or not even or usual * step > _SPARSE_MM:
        return 0.5
    logger.warning("%s has contours %.3g slices apart; the slices between take the nearest one.", what, usual)
    return usual / 2


def _fill_plane(polygons: list[NDArray[np.float64]], shape: Sequence[int]) -> NDArray[np.bool_]:
    plane = np.zeros(shape, bool)
    parts = sorted((fill_polygon(polygon, shape) for polygon in polygons), key=np.count_nonzero, reverse=True)
    for index, part in enumerate(parts):
        if any(np.array_equal(part, other) for other in parts[:index]):
            continue  # a contour that is there twice is no hole in itself
        shared, size = np.count_nonzero(plane & part), np.count_nonzero(part)
        plane = plane | part if shared < _INSIDE * size else plane & ~part
    return plane


def fill_polygon(polygon: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Fill a polygon by the even-odd rule, in milliseconds where skimage takes a second for the outline of a body.

    A line there and back, as to a hole, leaves no trace.

    Args:
        polygon: (points, 2), in voxels whose centres are whole numbers.
        shape: of the plane.

    Returns:
        Which voxels have their centre inside. Of those on a line, the ones at a lower side are.

    Example:
        >>> fill_polygon(np.array([[0.5, 0.5], [0.5, 2.5], [2.5, 2.5], [2.5, 0.5]]), (4, 3)).astype(int).tolist()
        [[0, 0, 0], [0, 1, 1], [0, 1, 1], [0, 0, 0]]
    """
    after = np.roll(polygon, -1, axis=0)
    upward = (polygon[:, 0] <= after[:, 0])[:, None]
    low, high = np.where(upward, polygon, after), np.where(upward, after, polygon)
    first = np.clip(np.ceil(low[:, 0]), 0, shape[0]).astype(int)
    count = np.clip(np.ceil(high[:, 0]), 0, shape[0]).astype(int) - first
    edge = np.repeat(np.arange(len(polygon)), count)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (high[edge, 1] - low[edge, 1]) / (high[edge, 0] - low[edge, 0])
    columns = np.ceil(low[edge, 1] + (rows - low[edge, 0]) * slope)
    crossings = np.zeros((shape[0], shape[1] + 1), np.int32)
    np.add.at(crossings, (rows, np.clip(columns, 0, shape[1]).astype(int)), 1)
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
