"""Polygons around the regions of a plane, each hole joined to the line around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import find_contours, points_in_poly

__all__ = ["outlines"]


def outlines(region: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the outlines (points, 2) of a region in voxels, each with its holes joined to it, not closed."""
    padded = np.pad(region, 1).astype(np.float32)  # a margin closes what touches the border
    lines = [line[:-1] - 1 for line in find_contours(padded, 0.5, positive_orientation="high")]
    areas = [_area(line) for line in lines]
    outer = [_without_straight(line) for line, area in zip(lines, areas, strict=True) if area > 0]
    size = [_area(line) for line in outer]
    holes = [_without_straight(line) for line, area in zip(lines, areas, strict=True) if area < 0]
    around = [[i for i, line in enumerate(outer) if points_in_poly(hole[:1], line)[0]] for hole in holes]
    homes = [min(candidates, key=size.__getitem__) for candidates in around]
    distances = [cKDTree(outer[home]).query(hole)[0].min() for hole, home in zip(holes, homes, strict=True)]
    for index in np.argsort(distances).tolist():  # the nearest first, so that no line crosses a hole on its way
        outer[homes[index]] = _join(outer[homes[index]], holes[index])
    return outer


def _area(line: NDArray[np.float64]) -> float:
    """Return the signed area of a polygon."""
    x, y = line.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _without_straight(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drop points that lie on the line between their neighbours."""
    before, after = line - np.roll(line, 1, axis=0), np.roll(line, -1, axis=0) - line
    return line[np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9]


def _join(line: NDArray[np.float64], hole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Join a hole to the line around it where the two are nearest."""
    distances, nearest = cKDTree(line).query(hole)
    start = int(distances.argmin())
    end = int(nearest[start])
    hole = np.roll(hole, -start, axis=0)
    return np.concatenate([line[: end + 1], hole, hole[:1], line[end:]])
