"""Reading labels of any kind as layers, each on a grid of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from med3d_components.data.labels import read_label
from med3d_components.data.volumes import open_scan

__all__ = ["Layer", "read_layers"]


class Layer(NamedTuple):
    """One layer of a label.

    Attributes:
        voxels: integers, (x, y, z).
        affine: (4, 4), from voxel to RAS mm.
        names: value to the name of its class, where the file tells one.
    """

    voxels: NDArray[Any]
    affine: NDArray[Any]
    names: Mapping[int, str]


def read_layers(path: Path, image: Path) -> Iterator[Layer]:
    """Yield the layers of a label file, in order; later ones cover earlier ones.

    Args:
        path: of the label.
        image: of its scan.

    Raises:
        ValueError: if it cannot be read, or is no label.
    """
    label = open_scan(path)
    yield Layer(read_label(label), label.affine, {})
