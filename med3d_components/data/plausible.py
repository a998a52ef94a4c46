"""How large the organs of a training set are, so that an inference can say what it finds implausible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from med3d_components.data.volumes import open_scan
from med3d_components.utils.machine import default_workers

__all__ = ["label_volumes"]

MOST = 100
"""Labels that are read, at even steps through the list: the range of more is hardly wider."""


def label_volumes(
    data: Sequence[Mapping[str, Any]], classes: Sequence[str] | Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the least and the largest volume of each class, among the labels that have it.

    Args:
        data: items with a "label", and a "domain" where there are several.
        classes: names, background first; values beyond them, of merged classes, count as the first. Or domain to names.

    Returns:
        Class to [least, largest] in ml, rounded to 0.001; or domain to such a mapping. A label without a voxel size
        is left out.

    Example:
        >>> from med3d_components.data import SegmentationDatalist
        >>> datalist = SegmentationDatalist("3DSeg-8/Task09_Spleen")
        >>> list(label_volumes(datalist.training, datalist.classes))
        ['class 1']
    """
    if isinstance(classes, Mapping):
        parts = {name: [item for item in data if item["domain"] == name] for name in classes}
        return {name: label_volumes(parts[name], names) for name, names in classes.items()}
    taken = [data[index] for index in np.unique(np.linspace(0, len(data) - 1, MOST).round().astype(int))]
    with ThreadPoolExecutor(default_workers()) as pool:
        measured = np.array([*pool.map(lambda item: _volumes(item["label"], len(classes)), taken)])
    known = measured > 0
    return {
        name: [round(float(value), 3) for value in (measured[known[:, i], i].min(), measured[:, i].max())]
        for i, name in enumerate(classes)
        if i > 0 and known[:, i].any()
    }


def _volumes(path: str, count: int) -> list[float]:
    """Return the volume of each class in ml, zeros where the label has no voxel size."""
    try:
        label = open_scan(path)
    except ValueError:
        return [0.0] * count
    voxels = np.bincount(label.read().astype(np.intp).ravel(), minlength=count)
    voxels[1] += voxels[count:].sum()
    voxel_ml = abs(np.linalg.det(label.affine[:3, :3])) / 1000
    return [float(number * voxel_ml) for number in voxels[:count]]
