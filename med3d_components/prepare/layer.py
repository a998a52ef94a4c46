"""What one label file says of voxels: regions by value, where they lie, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

__all__ = ["Layer"]


class Layer(NamedTuple):
    """Voxels of a label file that do not overlap; a file whose regions do has several layers.

    Attributes:
        voxels: (x, y, z), whole numbers, 0 where nothing is. A value means the same in all layers of a file.
        affine: (4, 4), voxel to RAS mm; the grid may be a part of the scan's.
        names: value to class, where the file names its classes; else empty.
        cut_mm: how far its regions reach outside the scan, where they are cut off; 0 for what rounding explains.
    """

    voxels: NDArray[Any]
    affine: NDArray[Any]
    names: Mapping[int, str]
    cut_mm: float = 0.0
