"""NIfTI files that lie on their scan for every program: its header's own bytes say where, not a matrix made of them."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike, NDArray

from med3d_components.data.geometry import read_nifti_header
from med3d_components.data.scan import is_nifti
from med3d_components.data.volumes import open_scan
from med3d_components.utils import atomic_path

__all__ = ["check_grid", "gzipped", "voxel_bytes", "write_nifti"]

GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
"""What a header says of where its voxels lie, in numbers of its own, which a writer must not recompute."""


def write_nifti(
    path: Path,
    volumes: Iterable[NDArray[Any]],
    shape: Sequence[int],
    dtype: DTypeLike,
    scan_path: str | os.PathLike[str],
    resample: bool = False,
) -> None:
    """Write volumes on the grid of a scan as a NIfTI file, atomically.

    Beside a NIfTI scan it has the same forms, codes, voxel size and units, to the last bit; beside a scan of another
    format both forms hold that one's affine, in mm.

    Args:
        path: ends with ``.nii.gz``, or with ``.nii`` for a file that is not compressed.
        volumes: (x, y, z) each, one per channel; they are written one after the other, so that not all need exist.
        shape: (x, y, z) of a mask, or (x, y, z, channels).
        dtype: of the voxels.
        scan_path: of the scan, of any format.
        resample: whether the scan is a DICOM series that was resampled as it was read.

    Raises:
        ValueError: if the shape is not that of the scan.

    Example:
        >>> write_nifti(Path("ct_seg.nii.gz"), [np.ones((64, 64, 64))], (64, 64, 64), np.uint8, "ct.nii.gz")
        >>> nib.load("ct_seg.nii.gz").get_data_dtype()
        dtype('uint8')
    """
    header = _header(scan_path, shape, resample)
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    # By hand, since nibabel stores "no scaling" as NaN, which not every program reads so.
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = header.single_vox_offset
    with atomic_path(path) as temporary, temporary.open("wb") as raw, _packed(raw, path) as file:
        file.write(header.binaryblock)
        file.write(bytes(header.single_vox_offset - header.sizeof_hdr))
        for volume in volumes:
            for block in voxel_bytes(volume, dtype):
                file.write(block)


def check_grid(shape: Sequence[int], scan_shape: Sequence[int], scan_path: str | os.PathLike[str]) -> None:
    """Check that a result has the voxels of its scan.

    Raises:
        ValueError: if not.
    """
    if tuple(shape[:3]) != tuple(scan_shape):
        raise ValueError(
            f"{scan_path} has {' x '.join(map(str, scan_shape))} voxels, but its result "
            f"{' x '.join(map(str, shape[:3]))}; nothing is written."
        )


def gzipped(file: BinaryIO) -> gzip.GzipFile:
    """Pack what is written to a file; equal content gives equal files, and a higher level wins little for a mask."""
    return gzip.GzipFile("", "wb", 1, file, mtime=0)


def _packed(file: BinaryIO, path: Path) -> AbstractContextManager[Any]:
    """Pack what is written to a file if its name says so."""
    return gzipped(file) if path.suffix == ".gz" else nullcontext(file)


def voxel_bytes(volume: NDArray[Any], dtype: DTypeLike) -> Iterator[memoryview]:
    """Return the voxels of a volume (x, y, z), x fastest, in blocks that cost little memory."""
    for start in range(0, volume.shape[2], 64):
        yield np.ascontiguousarray(volume[:, :, start : start + 64].T, dtype).data


def _header(scan_path: str | os.PathLike[str], shape: Sequence[int], resample: bool) -> Any:
    """Return a header, little-endian, with the geometry of a scan and nothing else of it."""
    if is_nifti(scan_path):
        theirs = read_nifti_header(scan_path)
        header = type(theirs)()
        for field in GEOMETRY:
            header[field] = theirs[field]
        count, *lengths = theirs["dim"].tolist()
        scan_shape = tuple(length if axis < count else 1 for axis, length in enumerate(lengths[:3]))
    else:
        scan = open_scan(scan_path, resample=resample)
        header, scan_shape = nib.Nifti1Header(), scan.shape
        header.set_xyzt_units("mm")
        header.set_qform(scan.affine, 1)
        header.set_sform(scan.affine, 1)
    check_grid(shape, scan_shape, scan_path)
    return header
