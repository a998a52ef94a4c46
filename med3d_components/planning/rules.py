"""The rules of a plan: spacing, strides and patch sizes from the sizes and spacings of volumes.

They are those of nnU-Net (Isensee et al. 2021, "nnU-Net: a self-configuring method for deep learning-based biomedical
image segmentation", supplementary note 2), for an encoder whose number of levels is fixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from med3d_components.networks import output_stride
from med3d_components.planning.fingerprint import Fingerprint

__all__ = ["Patch", "choose_spacing", "choose_strides", "is_anisotropic", "patches"]

ANISOTROPIC = 3
"""So many times the other axes' spacing, and so many times fewer voxels, make an axis one of thick slices."""
LEVELS = 3
"""Where an encoder can halve an axis: conv1, max-pooling and layer2."""
LEAST_MAP = 4
"""Voxels that an axis must keep where it is halved."""
LEAST_PATCH = 32
"""Voxels of the finest spacing along the longest axis of the smallest patch."""
STEP = 2 ** (1 / 4)
"""From one length of patches to the next."""


def is_anisotropic(fingerprint: Fingerprint) -> bool:
    """Tell whether the slices of a set's median volume are thick, and few."""
    spacing = np.median(fingerprint.spacings, axis=0)
    thick, size = int(spacing.argmax()), fingerprint.median_size(spacing)
    others = [axis for axis in range(3) if axis != thick]
    return bool(spacing[thick] > ANISOTROPIC * spacing[others].max() and ANISOTROPIC * size[thick] < size[others].min())


def choose_spacing(fingerprint: Fingerprint) -> list[float]:
    """Return the spacing in mm to resample to: the median of each axis; of thick slices, the 10th percentile.

    The median would throw away every second slice of those scans that have thin ones.

    Example:
        >>> sizes, spacings = np.tile([100.0, 100, 20], (4, 1)), np.array([[1, 1, z] for z in (3.0, 6, 6, 6)])
        >>> choose_spacing(Fingerprint("Organ", ("background", "organ"), 1, sizes, spacings))
        [1.0, 1.0, 3.9]
    """
    spacing = np.median(fingerprint.spacings, axis=0)
    if is_anisotropic(fingerprint):
        thick = int(spacing.argmax())
        # Not finer than the others: there is no detail to see then.
        least = np.delete(spacing, thick).max()
        spacing[thick] = max(np.percentile(fingerprint.spacings[:, thick], 10), least)
    return [float(f"{value:.6g}") for value in spacing]


def choose_strides(size: Sequence[float], spacing: Sequence[float]) -> list[list[int]]:
    """Return the strides of conv1, max-pooling and layer2 along each axis for volumes of a size and spacing.

    An axis is halved where that leaves it at least 4 voxels, and while its voxels are less than twice as long as the
    shortest among such axes: that of thick slices waits until the others have caught up.

    Args:
        size: (3,), in voxels.
        spacing: (3,), in mm.

    Example:
        >>> choose_strides((35, 50, 9), (1, 1, 4))
        [[2, 2, 1], [2, 2, 1], [2, 2, 2]]
    """
    left, mm = np.array(size, float), np.array(spacing, float)
    strides = []
    for _ in range(LEVELS):
        long = left >= 2 * LEAST_MAP
        halved = long & (mm < 2 * mm.min(where=long, initial=np.inf))
        strides.append([int(factor) for factor in np.where(halved, 2, 1)])
        left, mm = np.ceil(left / strides[-1]), mm * strides[-1]
    return strides


class Patch(NamedTuple):
    """Size of a patch in voxels, and the strides of the encoder for it."""

    size: list[int]
    strides: list[list[int]]


def patches(
    size: Any, spacing: Sequence[float], strides: Sequence[Sequence[int]] | None = None, architecture: str = "resnet"
) -> Iterator[Patch]:
    """Yield patches from a whole volume down to a small one, each a cube in mm as far as the volume reaches.

    Each is a multiple of the encoder's output stride: rounded up where it holds the volume, else down.

    Args:
        size: of the volume, (3,), in voxels.
        spacing: (3,), in mm.
        strides: of the encoder, if they are not to be chosen for each patch.
        architecture: see :func:`build_network`.

    Example:
        >>> [patch.size for patch in patches((35, 50, 9), (1, 1, 4))]
        [[40, 56, 10], [40, 40, 10], [40, 32, 8]]
    """
    length = (size * np.array(spacing)).max()
    while True:
        within = np.minimum(size, length / np.array(spacing))
        chosen = choose_strides(within, spacing) if strides is None else [list(row) for row in strides]
        multiple = np.array(output_stride(chosen, architecture))
        rounded = np.where(within >= size, np.ceil(within / multiple), np.maximum(1, within // multiple))
        yield Patch([int(voxels) for voxels in multiple * rounded], chosen)
        length /= STEP
        if length < LEAST_PATCH * min(spacing):
            return
