"""Open a scan of any format, from its header to its voxels.

Everything that looks at a scan goes through :func:`open_scan`, so that inference, training, import and nodules have one
opinion of its shape and place.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from med3d_components.data.channels import stack_channels
from med3d_components.data.dicom import is_dicom_folder, read_series
from med3d_components.data.geometry import check_affine, nifti_geometry
from med3d_components.data.itk_files import open_itk
from med3d_components.data.nifti_files import open_nifti
from med3d_components.data.scan import ENDINGS, Place, Scan, is_nifti, is_volume_file

__all__ = ["Header", "open_scan", "read_header", "read_volume", "scan_files"]


def scan_files(path: Place | Sequence[Place]) -> list[Path]:
    """Return the files that a scan is made of.

    Args:
        path: as :func:`open_scan` takes it.

    Example:
        >>> [file.name for file in scan_files("ct.nii.gz")]
        ['ct.nii.gz']
    """
    return [file for each in _places(path) for file in _files(each)]


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


def read_header(path: Place | Sequence[Place], need_spacing: bool = True) -> Header:
    """Read the header of a volume and check what it promises.

    Args:
        path: as :func:`open_scan` takes it.
        need_spacing: whether a file without a valid spacing is an error.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as :func:`open_scan`.

    Example:
        >>> read_header("ct.nii.gz")
        Header(size=(64, 64, 64), spacing=(1.0, 1.0, 1.0), channels=1)
    """
    scan = open_scan(path, need_spacing=need_spacing)
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0) if scan.has_spacing else np.full(3, np.nan)
    order = np.argsort(nib.orientations.io_orientation(scan.affine)[:, 0])
    return Header(
        size=tuple(int(scan.shape[axis]) for axis in order),  # type: ignore[arg-type]
        spacing=tuple(float(spacing[axis]) for axis in order),  # type: ignore[arg-type]
        channels=scan.channels,
    )


def open_scan(
    path: Place | Sequence[Place],
    spacing: Sequence[float] | None = None,
    need_spacing: bool = True,
    resample: bool = False,
) -> Scan:
    """Read the header of a NIfTI, NRRD or MetaImage file, or of a DICOM series.

    Headers are kept, so several nodules of a scan cost one; what is doubtful in one is logged once.

    Args:
        path: the file or folder, or ``FOLDER::NAME`` of one DICOM series among several in a folder; or several of
            these, the channels of one scan.
        spacing: in mm along the axes of the file, where its header has none.
        need_spacing: whether a file without a voxel size is an error; ``has_spacing`` tells if not.
        resample: whether unevenly spaced or tilted DICOM slices become a volume by interpolation; an error if not.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it is no readable volume of three dimensions, with or without channels, or its geometry is none;
            see :func:`nifti_geometry`, :func:`check_affine` and :func:`stack_channels`.

    Example:
        >>> scan = open_scan("ct.nii.gz")
        >>> scan.read((10, 10, 10), (58, 58, 58)).shape
        (48, 48, 48)
    """
    if len(places := _places(path)) > 1:
        return stack_channels([open_scan(each, spacing, need_spacing, resample) for each in places])
    (path,) = places
    place = _on_disk(path)
    if place.is_dir():
        if place == Path(path) and not is_dicom_folder(place):
            raise ValueError(f"{path} is a folder without a DICOM series; name a volume or a folder of DICOM slices.")
        scan = _open_series(str(path), resample)
    else:
        scan = _open(place, place.stat().st_mtime_ns)
    if spacing is None:
        if need_spacing and not scan.has_spacing:
            nifti_geometry(place)  # which knows what to say
        return scan
    affine = scan.affine.copy()
    affine[:3, :3] *= np.asarray(spacing) / np.linalg.norm(affine[:3, :3], axis=0)
    return replace(scan, affine=affine, has_spacing=True)


def read_volume(path: Place | Sequence[Place], need_spacing: bool = True) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Read a file of any format, a DICOM series, or several of these as channels.

    Returns:
        The volume in a type that NIfTI has, and its voxel to RAS mm matrix.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it cannot be read, see :func:`open_scan`.
    """
    scan = open_scan(path, need_spacing=need_spacing)
    array = scan.voxels()
    if _on_disk(scan.path).is_dir():
        whole = np.clip(array, -32768, 32767).astype(np.int16)
        return whole if np.array_equal(whole, array) else array, scan.affine
    small = array.dtype in (np.uint8, np.int16, np.uint16)
    return array if small else array.astype(np.float32, copy=False), scan.affine


def _places(path: Place | Sequence[Place]) -> list[Place]:
    return [path] if isinstance(path, str | os.PathLike) else list(path)


def _files(path: Place) -> list[Path]:
    place = _on_disk(path)
    if place.is_dir():
        return list(read_series(path, resample=True).files)
    voxels = place.parent.glob(f"{glob.escape(place.stem)}.*raw*") if place.suffix.lower() == ".mhd" else ()
    return [place, *sorted(voxels)]


def _on_disk(path: str | os.PathLike[str]) -> Path:
    """Return the file or folder of a path, which is the folder of ``FOLDER::NAME``."""
    whole = Path(path)
    place = whole if whole.exists() or "::" not in str(path) else Path(str(path).rpartition("::")[0])
    if not place.exists():
        raise FileNotFoundError(f"{path} does not exist; add it, or drop its entry from the list.")
    return place


@lru_cache(maxsize=1024)
def _open(path: Path, modified: int) -> Scan:
    """Read the header of a file, once as long as it stays the same."""
    if is_nifti(path):
        return open_nifti(path)
    if is_volume_file(path):
        return open_itk(path)
    raise ValueError(f"{path} is none of {', '.join(ENDINGS)} and no folder of a DICOM series; convert it to .nii.gz.")


def _open_series(path: str, resample: bool) -> Scan:
    """Open a DICOM series, whose headers ``dicom.py`` keeps."""
    series = read_series(path, resample)
    check_affine(path, series.affine, "the DICOM headers")
    return Scan(path, series.name, series.shape, series.affine, series.read, series.read, modality=series.modality)
