"""What the header of a NIfTI file says about its volume, without reading a voxel."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

__all__ = ["Header", "file_gives_spacing", "is_spacing", "read_header"]


class Header(NamedTuple):
    """Size and spacing of a volume along the axes that it has after orientation to RAS.

    Attributes:
        size: voxels along left-right, posterior-anterior and inferior-superior.
        spacing: mm along the same axes; NaN if the file gives none.
        channels: entries of the fourth axis, 1 for a 3-D volume.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    channels: int


def read_header(path: str | os.PathLike[str], need_spacing: bool = True) -> Header:
    """Read the header of a NIfTI file and check what it promises.

    Args:
        path: of the file.
        need_spacing: whether a file without a valid spacing is an error.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no NIfTI file, is cut off, is not a 3-D volume (with or without channels), or has
            no valid spacing.

    Example:
        >>> read_header("ct.nii.gz")
        Header(size=(64, 64, 64), spacing=(1.0, 1.0, 1.0), channels=1)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        image = nib.load(path)
        shape, affine = image.shape, np.asarray(image.affine, dtype=float)
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error) as e:
        raise ValueError(f"{path} is not a readable NIfTI file ({e}); replace or convert it.") from e
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"{path} has shape {shape}, but must be a 3-D volume, or 4-D with channels last.")
    if path.suffix == ".gz" and not _is_complete(path, image):
        raise ValueError(f"{path} is cut off: it holds fewer bytes than its header announces; copy it anew.")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and is_spacing(spacing) and file_gives_spacing(path)):
        if need_spacing:
            raise ValueError(f"{path} has no valid spacing ({_text(_pixdim(path))} mm); repair its header.")
        affine, spacing = np.eye(4), np.full(3, np.nan)
    order = np.argsort(nib.orientations.io_orientation(affine)[:, 0])
    return Header(
        size=tuple(int(shape[axis]) for axis in order),  # type: ignore[arg-type]
        spacing=tuple(float(spacing[axis]) for axis in order),  # type: ignore[arg-type]
        channels=shape[3] if len(shape) == 4 else 1,
    )


def file_gives_spacing(path: str | os.PathLike[str]) -> bool:
    """Tell whether the voxel size in a NIfTI file is one; true for files of other kinds, whose affine tells.

    Readers take a voxel size of 0 for 1 mm, in silence.
    """
    if not (str(path).endswith((".nii", ".nii.gz")) and Path(path).is_file()):
        return True
    return is_spacing(_pixdim(path))


def is_spacing(values: Any) -> bool:
    """Tell whether values are lengths in mm, of any sign: finite and not 0."""
    values = np.asarray(values, dtype=float)
    return bool(np.all(np.isfinite(values) & (values != 0)))


def _pixdim(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the voxel size without the check that turns 0 into 1."""
    header_class = nib.load(path).header_class
    with ImageOpener(path) as file:
        return np.asarray(header_class.from_fileobj(file, check=False)["pixdim"][1:4], dtype=float)


def _is_complete(path: Path, image: Any) -> bool:
    """Compare the length that a gzip file records at its end with the one its NIfTI header announces."""
    header = image.header
    expected = int(header.get_data_offset() + np.prod(image.shape, dtype=np.int64) * header.get_data_dtype().itemsize)
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        recorded = struct.unpack("<I", file.read(4))[0]
    if recorded >= expected % 2**32 and recorded - expected % 2**32 < 1024:  # some writers pad the end
        return True
    try:  # files of several gzip members record the last one's length alone, so only reading tells
        with gzip.open(path) as file:
            return sum(len(block) for block in iter(lambda: file.read(1 << 20), b"")) >= expected
    except (OSError, EOFError, zlib.error):
        return False


def _text(values: np.ndarray) -> str:
    return " x ".join(f"{value:g}" for value in values)
