"""What makes a label: that it lies on its image, and that its values are whole numbers, each a class.

Image and label are compared in the world, from their headers. A label on its image's grid may have its axes in another
order or direction, and may cover a part of the image only; it is turned and padded then, without loss. One that lies
more than a tenth of a voxel off at any corner was drawn on another image, moved or resampled, and is refused.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation
from numpy.typing import NDArray

from med3d_components.data.place import find_place
from med3d_components.data.scan import Scan
from med3d_components.data.volumes import open_scan

__all__ = [
    "check_label",
    "check_values",
    "count_values",
    "count_voxels",
    "fit_label",
    "label_affine",
    "read_label",
]

WHOLE = 1e-3
"""How far a value may lie from the whole number that it stands for: a slope of 1/41 makes 0.99999999 of 41."""
MOST = 2**53
"""Greatest whole number below which float64 has all."""
FEW = 2**16
"""Values below are counted in a table."""


def fit_label(
    voxels: NDArray[Any], affine: NDArray[Any], shape: tuple[int, ...], image_affine: NDArray[Any], what: str
) -> NDArray[Any]:
    """Return a label on its image's grid: turned, and padded with background where it covers a part.

    Args:
        voxels: of the label, (x, y, z).
        affine: (4, 4), from voxel of the label to RAS mm.
        shape: of the image.
        image_affine: (4, 4), from voxel of the image to RAS mm.
        what: the label, for the message.

    Returns:
        The label's values in ``shape``; nothing is interpolated.

    Raises:
        ValueError: naming the distance in mm, if a corner of the label lies off the image's grid, or outside it.

    Example:
        >>> label = np.zeros((4, 4, 4), np.uint8)
        >>> label[0] = 1
        >>> to_the_left = np.array([[-1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        >>> fit_label(label, to_the_left, (4, 4, 4), np.eye(4), "case_1: its label")[:, 0, 0].tolist()
        [0, 0, 0, 1]
        >>> fit_label(label, np.diag([0.5, 0.5, 0.5, 1]), (4, 4, 4), np.eye(4), "case_1: its label")
        Traceback (most recent call last):
        ...
        ValueError: case_1: its label lies up to 3.03 mm off its image: its voxels have 0.5 x 0.5 x 0.5 mm, ...
    """
    place = find_place(voxels.shape, affine, shape, image_affine)
    place.check(what)
    turned: NDArray[Any] = apply_orientation(voxels, place.turn)
    if place.size == tuple(shape):
        return turned
    whole = np.zeros(shape, voxels.dtype)
    whole[tuple(slice(low, low + length) for low, length in zip(place.start, place.size, strict=True))] = turned
    return whole


def check_label(image: Scan, label: Scan, case: str) -> None:
    """Refuse a label that does not lie on its image, from their headers alone.

    Args:
        image: of any number of channels.
        label: with one class per channel, where it has several.
        case: its name, for the message.

    Raises:
        ValueError: naming the case and the distance in mm, see :func:`fit_label`; where one of them gives no voxel
            size, if they differ in shape or direction.

    Example:
        >>> check_label(open_scan("ct.nii.gz"), open_scan("ct.nii.gz"), "case_1")
    """
    affine = label_affine(image, label, case)
    find_place(label.shape, affine, image.shape, image.affine).check(f"{case}: its label {label.path}")


def label_affine(image: Scan, label: Scan, case: str) -> NDArray[np.float64]:
    """Return where a label lies: what its header says, or that of its image where one of them gives no voxel size.

    Without a voxel size, only shape and directions can be compared.

    Args:
        image: its scan.
        label: the label.
        case: its name, for the message.

    Raises:
        ValueError: if shape or directions differ where a voxel size is missing.
    """
    if image.has_spacing and label.has_spacing:
        return label.affine
    here, there = (scan.affine[:3, :3] / voxel_sizes(scan.affine) for scan in (image, label))
    if image.shape != label.shape or not np.allclose(here, there, atol=1e-3):
        without = label if image.has_spacing else image
        raise ValueError(
            f"{case}: {without.path} gives no voxel size, and image and label differ in shape or direction "
            f"({image.shape} and {label.shape} voxels), so they cannot be compared; repair its header."
        )
    return image.affine


def read_label(label: Scan, num_classes: int | None = None) -> NDArray[Any]:
    """Read the values of a label, as integers, of shape (x, y, z).

    Args:
        label: of one channel, or one-hot: of a channel per class, with or without one of the background.
        num_classes: that one-hot channels may be, with background; None to tell by whether each voxel is in one.

    Returns:
        The values, in any type of integers, wide enough for all of the file's.

    Raises:
        ValueError: for values that are no whole numbers, and channels that are no classes which exclude each other.

    Example:
        >>> read_label(open_scan("3DSeg-8/Task09_Spleen/labelsTr/case_0.nii.gz")).max()
        np.uint8(1)
    """
    voxels = _whole(label.voxels(), label.path)
    return voxels if label.channels == 1 else _join_channels(voxels, num_classes, label.path)


def count_voxels(path: str | os.PathLike[str], num_classes: int | None = None) -> dict[int, int]:
    """Return how many voxels each value of a label has, values in their order.

    Args:
        path: of the label.
        num_classes: see :func:`read_label`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or is no label, see :func:`read_label`.

    Example:
        >>> count_voxels("3DSeg-8/Task09_Spleen/labelsTr/case_0.nii.gz")
        {0: 12440, 1: 1000}
    """
    return count_values(read_label(open_scan(path, need_spacing=False), num_classes))


def count_values(voxels: NDArray[Any]) -> dict[int, int]:
    """Return how often each value of an array of integers occurs, in their order.

    Example:
        >>> count_values(np.array([[[3, 0], [16777217, 3]]]))
        {0: 1, 3: 2, 16777217: 1}
    """
    counts: Counter[int] = Counter()
    for plane in np.moveaxis(voxels, -1, 0):  # a plane at a time: counting takes eight bytes a voxel
        if plane.min() >= 0 and plane.max() < FEW:
            numbers = np.bincount(plane.ravel().astype(np.intp))
            values = np.flatnonzero(numbers)
            numbers = numbers[values]
        else:
            values, numbers = np.unique(plane, return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    return dict(sorted(counts.items()))


def check_values(values: NDArray[Any], num_classes: int, path: str | os.PathLike[str]) -> None:
    """Refuse values of a label that its ``dataset.json`` does not declare.

    Args:
        values: all that occur, in any shape.
        num_classes: number of classes; values from 0 to it less one are allowed.
        path: of the label, for the message.

    Raises:
        ValueError: naming the values.

    Example:
        >>> check_values(np.array([0, 1, 7]), 2, "case_1.nii.gz")
        Traceback (most recent call last):
        ...
        ValueError: label case_1.nii.gz holds the values 0, 1, 7, but dataset.json declares 0 to 1.
    """
    if values.min() < 0 or values.max() >= num_classes:
        found = np.unique(values).tolist()
        some = ", ".join(map(str, found[:10])) + (", ..." if len(found) > 10 else "")
        raise ValueError(f"label {path} holds the values {some}, but dataset.json declares 0 to {num_classes - 1}.")


def _whole(voxels: NDArray[Any], path: str) -> NDArray[Any]:
    """Return values as integers."""
    if voxels.dtype.kind in "iu":
        return voxels
    low, high = voxels.min(), voxels.max()
    if not max(abs(low), abs(high)) <= MOST:  # true for NaN
        raise ValueError(f"{path} holds the values {low:g} to {high:g}, but those of a label are whole numbers.")
    kind = np.int64 if np.rint(low) < 0 else np.min_scalar_type(int(np.rint(high)))
    whole = np.empty_like(voxels, dtype=kind)
    for plane, target in zip(np.moveaxis(voxels, -1, 0), np.moveaxis(whole, -1, 0), strict=True):  # to save memory
        rounded = np.rint(plane)
        if (wrong := np.abs(plane - rounded) > WHOLE).any():
            some = ", ".join(f"{value:g}" for value in np.unique(plane[wrong])[:5])
            raise ValueError(f"{path} holds the values {some}, but those of a label are whole numbers.")
        target[...] = rounded
    return whole


def _join_channels(voxels: NDArray[Any], num_classes: int | None, path: str) -> NDArray[Any]:
    """Return the class of each voxel (x, y, z) of a one-hot label (x, y, z, channels)."""
    channels = voxels.shape[-1]
    if num_classes is not None and channels not in (num_classes, num_classes - 1):
        raise ValueError(
            f"{path} has {channels} channels; a label has one, or one for each of its {num_classes} classes, with or "
            "without the background."
        )
    marked = voxels.sum(axis=-1)
    if voxels.min() < 0 or voxels.max() > 1 or marked.max() > 1:
        raise ValueError(
            f"{path} has {channels} channels that overlap or hold other values than 0 and 1; give classes that exclude "
            "each other, in one 3-D label."
        )
    with_background = bool(marked.all()) if num_classes is None else channels == num_classes
    if with_background and not marked.all():
        raise ValueError(f"{path} has {channels} channels, one for the background, but voxels that are in none.")
    classes = voxels.argmax(axis=-1)
    return classes if with_background else np.where(marked, classes + 1, 0)
