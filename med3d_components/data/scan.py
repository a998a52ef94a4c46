"""A volume on disk: where it lies, what its header says, and how its voxels are read."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

__all__ = [
    "ENDINGS",
    "NIFTI",
    "Place",
    "Scan",
    "case_name",
    "is_nifti",
    "is_volume_file",
    "reading",
    "reason_of",
    "warn_once",
]

logger = logging.getLogger(__name__)

NIFTI = (".nii", ".nii.gz")
ENDINGS = (*NIFTI, ".nrrd", ".mha", ".mhd")
Reader = Callable[[Sequence[slice]], NDArray[Any]]
Place: TypeAlias = str | os.PathLike[str]
"""A file, a folder of one DICOM series, or ``FOLDER::NAME`` of one series among several."""


def case_name(path: str | os.PathLike[str]) -> str:
    """Return the name of a volume without the ending of its format.

    Example:
        >>> case_name("imagesTr/patient.7.nii.gz")
        'patient.7'
    """
    name = Path(path).name
    ending = next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def is_nifti(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file's name is one of a NIfTI file."""
    return str(path).lower().endswith(NIFTI)


@dataclass(frozen=True)
class Scan:
    """A volume on disk, of which only the header has been read.

    Attributes:
        path: its file, or its folder of DICOM slices, or ``FOLDER::NAME`` of one series among several.
        name: that of the file without its ending, or the UID of the series.
        shape: voxels along the axes of the file.
        channels: numbers per voxel.
        affine: (4, 4), from voxel to world, RAS in mm.
        read_box: reads a box of voxels, as an array of the box's shape.
        read_all: reads all voxels, (x, y, z) or (x, y, z, channels), in a type close to that of the file.
        modality: of a DICOM series, such as CT; empty for other formats.
        has_spacing: whether the file gives a voxel size; without, the affine has columns of length 1.
        parts: the scans of its channels where each has a file of its own; its path is that of the first.
    """

    path: str
    name: str
    shape: tuple[int, int, int]
    affine: NDArray[np.float64] = field(compare=False)
    read_box: Reader = field(repr=False, compare=False)
    read_all: Callable[[], NDArray[Any]] = field(repr=False, compare=False)
    channels: int = 1
    modality: str = ""
    has_spacing: bool = True
    parts: tuple[Scan, ...] = ()

    def read(self, lower: Sequence[int] = (0, 0, 0), upper: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return the voxels from ``lower`` up to but without ``upper``, as float32; all of them if none are given.

        Raises:
            ValueError: if there are several channels, or the voxels cannot be read.
        """
        self.check_one_channel()
        x, y, z = (slice(int(a), int(b)) for a, b in zip(lower, self.shape if upper is None else upper, strict=True))
        with reading(self.path):
            return np.asarray(self.read_box((x, y, z)), dtype=np.float32)

    def voxels(self) -> NDArray[Any]:
        """Return all voxels, of shape (x, y, z) or (x, y, z, channels), in a type close to that of the file.

        Raises:
            ValueError: if the voxels cannot be read.
        """
        if self.parts:
            return np.moveaxis(np.stack([part.voxels() for part in self.parts]), 0, -1)
        with reading(self.path):
            return self.read_all()

    def check_one_channel(self) -> None:
        """Refuse a scan of several channels.

        Raises:
            ValueError: naming the scan.
        """
        if self.channels > 1:
            raise ValueError(
                f"{self.path} is 4-D, of shape {(*self.shape, self.channels)}, but a scan must have one channel; "
                "split it."
            )

    def check_inside(self, center_mm: Sequence[float]) -> None:
        """Refuse a point, in world mm, that lies outside the scan.

        Raises:
            ValueError: naming the scan, the point and the scan's extent.
        """
        voxel = (np.linalg.inv(self.affine) @ [*center_mm, 1.0])[:3]
        if (voxel < -0.5).any() or (voxel > np.subtract(self.shape, 0.5)).any():
            corners = np.stack(np.meshgrid(*[(-0.5, length - 0.5) for length in self.shape]), axis=-1).reshape(-1, 3)
            world = apply_affine(self.affine, corners)
            extent = ", ".join(f"{a:.1f} to {b:.1f}" for a, b in zip(world.min(axis=0), world.max(axis=0), strict=True))
            raise ValueError(
                f"{self.path}: center_mm {[round(float(value), 1) for value in center_mm]} lies outside the scan, "
                f"{extent} mm (RAS); mind that x and y of DICOM and ITK have the opposite sign."
            )


def is_volume_file(path: Path) -> bool:
    """Tell whether a file has the ending of a volume and is not hidden."""
    return path.is_file() and path.name.lower().endswith(ENDINGS) and not path.name.startswith(".")


@cache
def warn_once(line: str) -> None:
    """Log a line, unless it was logged before."""
    logger.warning("%s", line)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Name the file in what its library says of voxels that cannot be read."""
    try:
        yield
    except (OSError, EOFError, zlib.error, RuntimeError, TypeError, ValueError) as error:
        if path in str(error):
            raise
        raise ValueError(f"{path} cannot be read ({reason_of(error)}); copy it anew.") from None


def reason_of(error: BaseException) -> str:
    """Return what an error says, of ITK's many lines the one that counts."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = next((line for line in lines if "ITK ERROR" in line), lines[-1])
    return line.rpartition("): ")[2].rstrip(".")
