"""Slices of a volume as radiologists look at them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from med3d_components.masks.classes import class_color

__all__ = ["Plane", "fill_classes"]

PLANES = ("sagittal", "coronal", "axial")
ENDS = (("R", "L"), ("A", "P"), ("S", "I"))
"""The two ends of each axis; the first lies at the left or the top of a picture."""


class Plane(NamedTuple):
    """A slice of a volume that is oriented to RAS.

    The patient's right is at the picture's left; anterior is up in axial planes and left in sagittal ones, superior is
    up in the others.

    Attributes:
        axis: across the plane: 0 sagittal, 1 coronal, 2 axial.
        place: index of the slice.
        spacing: mm of a voxel, across and down.
        size: voxels, across and down.
        position: of the slice on its axis, in world mm.
    """

    axis: int
    place: int
    spacing: tuple[float, float]
    size: tuple[int, int]
    position: float

    @classmethod
    def through(cls, mask: NDArray[Any], affine: NDArray[Any], axis: int) -> Plane:
        """Return the slice that shows most of a mask, or the middle one if it is empty.

        Args:
            mask: (H, W, D), oriented to RAS.
            affine: (4, 4), voxel to RAS mm.
            axis: across the plane.

        Example:
            >>> mask = np.zeros((8, 8, 8))
            >>> mask[2, 3:5, 6] = 1
            >>> Plane.through(mask, np.eye(4), axis=2).title
            'axial, S 6.0 mm'
        """
        across, down = (other for other in range(3) if other != axis)
        area = (mask > 0).sum(axis=(across, down))
        index = int(area.argmax()) if area.any() else mask.shape[axis] // 2
        voxel = (np.array(mask.shape) - 1) / 2
        voxel[axis] = index
        x, y = np.linalg.norm(affine[:3, :3], axis=0)[[across, down]].tolist()
        position = float((affine[:3, :3] @ voxel + affine[:3, 3])[axis])
        return cls(axis, index, (x, y), (mask.shape[across], mask.shape[down]), position)

    @property
    def width(self) -> float:
        """In mm."""
        return self.size[0] * self.spacing[0]

    @property
    def height(self) -> float:
        """In mm."""
        return self.size[1] * self.spacing[1]

    @property
    def aspect(self) -> float:
        """Height of a voxel over its width."""
        return self.spacing[1] / self.spacing[0]

    @property
    def title(self) -> str:
        """Which plane it is, and where."""
        side = ENDS[self.axis][self.position < 0]
        return f"{PLANES[self.axis]}, {side} {abs(self.position):.1f} mm"

    @property
    def ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Letters of the patient's sides at the picture's left and right, and at its top and bottom."""
        across, down = (ENDS[axis] for axis in range(3) if axis != self.axis)
        return across, down

    def cut(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return the slice as rows from the top: right, anterior and superior come first in a picture."""
        # Not take(), which copies a volume whole whose memory runs the other way, as that of NIfTI does.
        return np.moveaxis(volume, self.axis, 0)[self.place].T[::-1, ::-1]


def fill_classes(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a picture (rows, columns, RGBA) of a slice of labels, thin enough to see through."""
    values = labels.astype(int)
    colors = np.array([(0, 0, 0, 0), *((*class_color(value), 60) for value in range(1, values.max() + 1))])
    return colors[values].astype(np.uint8)
