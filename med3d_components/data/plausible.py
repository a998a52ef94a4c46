"""How large the organs of a training set are, so that an inference can say what it finds implausible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["label_volumes"]


def label_volumes(
    labels: Sequence[Mapping[int, int]], voxel_ml: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, list[float]]:
    """Return the least and the largest volume of each class, among the labels that have it.

    Args:
        labels: voxels per class of each label; values beyond the classes, which were merged, count as the first.
        voxel_ml: volume of a voxel of each label, in ml; NaN if it is unknown, and the label is left out.
        classes: names, background first.

    Returns:
        Class to [least, largest] in ml, rounded to 0.001; without the classes that no label has.

    Example:
        >>> label_volumes([{1: 4000}, {1: 3000, 2: 10}], np.array([0.001, 0.001]), ["background", "liver", "tumour"])
        {'liver': [3.0, 4.0], 'tumour': [0.01, 0.01]}
    """
    voxels = np.zeros((len(labels), len(classes)))
    for row, label in zip(voxels, labels, strict=True):
        for value, number in label.items():
            row[value if value < len(classes) else 1] += number
    volumes = voxels * np.nan_to_num(voxel_ml)[:, None]
    known = volumes > 0
    return {
        name: [round(float(value), 3) for value in (volumes[known[:, i], i].min(), volumes[:, i].max())]
        for i, name in enumerate(classes)
        if i > 0 and known[:, i].any()
    }
