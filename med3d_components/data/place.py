"""Where a label lies on the grid of its image, in the world."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.orientations import inv_ornt_aff, io_orientation
from numpy.typing import NDArray

__all__ = ["Place", "find_place"]

OFF = 0.1
"""In voxels: how far a corner of a label may lie off its image's grid."""
REMEDY = "export it anew from the image that it was drawn on, or leave the case out"


class Place(NamedTuple):
    """Where a label lies on its image's grid.

    Attributes:
        turn: nibabel's orientation, which brings the label's axes into the order and direction of the image's.
        start: voxel of the image that the first voxel of the turned label has.
        size: of the turned label.
        off: how far a corner lies from there, in voxels of the image, along the axis where it is farthest.
        off_mm: the greatest distance of a corner, in mm.
        reason: why it lies off, in words.
    """

    turn: NDArray[Any]
    start: tuple[int, ...]
    size: tuple[int, ...]
    off: float
    off_mm: float
    reason: str

    @property
    def fits(self) -> bool:
        """Whether the label lies there, to a tenth of a voxel."""
        return self.off <= OFF

    def check(self, what: str) -> None:
        """Refuse a label that lies elsewhere.

        Args:
            what: the label, for the message.

        Raises:
            ValueError: naming the distance in mm.
        """
        if not self.fits:
            raise ValueError(f"{what} lies up to {self.off_mm:.3g} mm off its image: {self.reason}; {REMEDY}.")


def find_place(
    label_shape: tuple[int, ...], affine: NDArray[Any], shape: tuple[int, ...], image_affine: NDArray[Any]
) -> Place:
    """Return the place on an image's grid that is nearest to where a label lies.

    Args:
        label_shape: voxels of the label along its axes.
        affine: (4, 4), from voxel of the label to RAS mm.
        shape: of the image.
        image_affine: (4, 4), from voxel of the image to RAS mm.

    Example:
        >>> from nibabel.affines import from_matvec
        >>> shifted = find_place((4, 4, 4), from_matvec(np.eye(3), [2, 0, 0]), (8, 4, 4), np.eye(4))
        >>> shifted.start, shifted.off_mm
        ((2, 0, 0), 0.0)
    """
    to_image = np.linalg.inv(image_affine) @ affine
    turn = io_orientation(to_image)
    order = np.argsort(turn[:, 0])
    size = tuple(int(label_shape[axis]) for axis in order)
    to_image = to_image @ inv_ornt_aff(turn, label_shape)  # of the turned label
    middle = (np.array(size) - 1) / 2
    room = np.maximum(np.subtract(shape, size), 0)
    start = np.clip(np.rint(apply_affine(to_image, middle) - middle), 0, room).astype(int)
    corners = np.array(list(product(*[(-0.5, length - 0.5) for length in size])))
    lies = apply_affine(to_image, corners)
    should = np.minimum(corners + start, np.array(shape) - 0.5)  # a label larger than its image reaches outside
    distances = np.linalg.norm((lies - should) @ image_affine[:3, :3].T, axis=1)
    return Place(
        turn=turn,
        start=tuple(start.tolist()),
        size=size,
        off=float(np.abs(lies - should).max()),
        off_mm=float(distances.max()),
        reason=_reason(to_image, size, shape, image_affine),
    )


def _reason(to_image: NDArray[Any], size: tuple[int, ...], shape: tuple[int, ...], image_affine: NDArray[Any]) -> str:
    """Return what makes a label, turned already, lie off its image: the first of size, direction and place."""
    affine = image_affine @ to_image
    ours, theirs = voxel_sizes(affine), voxel_sizes(image_affine)
    if (np.abs(ours / theirs - 1) * size > OFF).any():
        return f"its voxels have {_text(ours)} mm, those of the image {_text(theirs)} mm"
    rotation = (affine[:3, :3] / ours) @ np.linalg.inv(image_affine[:3, :3] / theirs)
    angle = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    if np.radians(angle) * max(size) > OFF:
        return f"it is turned by {angle:.2g} degrees"
    return "it is moved" if size == tuple(shape) else f"its {_text(size)} voxels reach outside, or are moved"


def _text(values: Any) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
