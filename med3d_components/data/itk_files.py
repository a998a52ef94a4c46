"""NRRD and MetaImage files as scans, read by ITK."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import itk
import numpy as np
from numpy.typing import NDArray

from med3d_components.data.geometry import check_affine
from med3d_components.data.scan import Scan, case_name, reason_of, warn_once

__all__ = ["LPS_TO_RAS", "itk_affine", "open_itk"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ITK_TYPES = {"unsigned_char": itk.UC, "char": itk.SS, "short": itk.SS, "unsigned_short": itk.US, "float": itk.F}
"""Types of voxels that ITK's Python package can hold, by those in files; all others are read as double."""


def open_itk(path: Path) -> Scan:
    """Open a file that ITK reads; a NRRD file's list axis holds its channels."""
    io = _itk_io(path)
    if io.GetNumberOfDimensions() != 3:
        raise ValueError(f"{path} has {io.GetNumberOfDimensions()} dimensions, but a scan must have three; split it.")
    fields = _header_fields(path)
    if not fields & {"space directions", "transformmatrix", "orientation", "rotation"}:
        raise ValueError(f"{path} gives no directions, so left and right are unknown; write them into its header.")
    if path.suffix.lower() == ".nrrd" and "space" not in fields:
        warn_once(f"{path}: its header does not name its space; left-posterior-superior is taken.")
    if not fields & {"space directions", "elementspacing", "elementsize"}:
        raise ValueError(f"{path} has no valid spacing (it gives none); repair its header.")
    affine = _itk_affine(path, io)
    x, y, z = (int(io.GetDimensions(axis)) for axis in range(3))
    channels = int(io.GetNumberOfComponents())
    kind = ITK_TYPES.get(io.GetComponentTypeAsString(io.GetComponentType()), itk.D)
    image_type = itk.Image[kind, 3] if channels == 1 else itk.VectorImage[kind, 3]
    read_box = partial(_read_itk, path, image_type)
    read_all = partial(read_box, (slice(0, x), slice(0, y), slice(0, z)))
    return Scan(str(path), case_name(path), (x, y, z), affine, read_box, read_all, channels)


def itk_affine(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Return voxel to RAS mm, (4, 4), as ITK and programs that are built on it see a file, such as 3D Slicer.

    For a NIfTI file it may be another than :func:`open_scan` gives.

    Raises:
        ValueError: if ITK cannot read the header, or takes from it what :func:`check_affine` refuses.
    """
    return _itk_affine(Path(path), _itk_io(Path(path)))


def _itk_affine(path: Path, io: Any) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = np.array([io.GetDirection(n)[:3] for n in range(3)]).T * [io.GetSpacing(n) for n in range(3)]
    affine[:3, 3] = [io.GetOrigin(axis) for axis in range(3)]
    affine = LPS_TO_RAS @ affine
    check_affine(path, affine)
    return affine


def _itk_io(path: Path) -> Any:
    """Return ITK's reader of a file's format, which has read its header."""
    io = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    try:
        if io is None:
            raise RuntimeError("a header of that format is missing at its start")
        io.SetFileName(str(path))
        io.ReadImageInformation()
    except RuntimeError as e:
        raise ValueError(f"{path} is not a readable volume ({reason_of(e)}); replace or convert it.") from None
    return io


def _header_fields(path: Path) -> set[str]:
    """Return the names of the fields in the text that a NRRD or MetaImage file begins with."""
    fields = set()
    with path.open("rb") as file:
        for line in iter(partial(file.readline, 65536), b""):
            name = line.decode("latin-1").partition(":" if path.suffix.lower() == ".nrrd" else "=")[0].strip().lower()
            fields.add(name)
            if name in ("", "elementdatafile"):
                break
    return fields


def _read_itk(path: Path, image_type: Any, box: Sequence[slice]) -> NDArray[Any]:
    """Read a box, channels last; of a MetaImage that is not compressed, ITK reads no more than that from disk."""
    region = itk.ImageRegion[3]()
    region.SetIndex([axis.start for axis in box])
    region.SetSize([axis.stop - axis.start for axis in box])
    reader = itk.ImageFileReader[image_type].New(FileName=str(path))  # named, since its output has no voxels without it
    reader.UpdateOutputInformation()
    part = itk.region_of_interest_image_filter(reader.GetOutput(), region_of_interest=region)
    array = itk.array_from_image(part)
    return np.asarray(array.T if array.ndim == 3 else np.moveaxis(array, -1, 0).T)
