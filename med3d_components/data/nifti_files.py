"""NIfTI files as scans: nibabel reads boxes of voxels, whole files are unpacked and checked in one go."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from med3d_components.data.geometry import nifti_geometry, read_nifti_header
from med3d_components.data.scan import Scan, case_name, reason_of, warn_once

__all__ = ["open_nifti"]

GZIP = 31
"""What zlib calls 32 KiB of window below gzip's header and checksum."""


def open_nifti(path: Path) -> Scan:
    """Open a NIfTI file.

    Raises:
        ValueError: if it is no readable volume, is cut off, or its geometry is none.
    """
    raw = read_nifti_header(path)
    try:
        stored = ArrayProxy(str(path), type(raw)(raw.binaryblock, raw.endianness))
    except (HeaderDataError, KeyError, ValueError) as e:
        raise ValueError(f"{path} is not a readable NIfTI file ({reason_of(e)}); replace or convert it.") from None
    shape = list(stored.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"{path} has shape {stored.shape}, but must be a 3-D volume, or 4-D with channels last.")
    if stored.dtype.kind not in "iuf":
        raise ValueError(f"{path} holds voxels of type {stored.dtype}, but they must be numbers; convert it.")
    if not _is_complete(path, stored):
        raise ValueError(
            f"{path} is cut off or damaged: fewer bytes than its header announces can be read; copy it anew."
        )
    geometry = nifti_geometry(path, need_spacing=False)
    for line in geometry.warnings:
        warn_once(line)
    x, y, z = shape[:3]
    return Scan(
        path=str(path),
        name=case_name(path),
        shape=(x, y, z),
        affine=geometry.affine,
        read_box=partial(_read_nifti, path, stored),
        read_all=partial(_read_whole_nifti, path, stored, tuple(shape)),
        channels=shape[3] if len(shape) > 3 else 1,
        has_spacing=geometry.has_spacing,
    )


def _check_start(stored: ArrayProxy) -> None:
    if stored.offset == 0:  # nibabel would take the header for voxels
        raise ValueError(f"{stored.file_like} says that its voxels begin at byte 0, in its header; convert it anew.")


def _read_nifti(path: Path, stored: ArrayProxy, box: Sequence[slice]) -> NDArray[Any]:
    _check_start(stored)
    try:
        part = stored[tuple(box)]
    except gzip.BadGzipFile:  # as it is if other bytes follow its end, which Python's gzip cannot tell from damage
        part = _unpack(path, stored)[tuple(box)]
    return np.asarray(part).reshape([axis.stop - axis.start for axis in box])


def _read_whole_nifti(path: Path, stored: ArrayProxy, shape: tuple[int, ...]) -> NDArray[Any]:
    _check_start(stored)
    array = _unpack(path, stored) if path.suffix.lower() == ".gz" else np.asanyarray(stored)
    return array.reshape(shape, order="F").astype(array.dtype.newbyteorder("="), copy=False)


def _unpack(path: Path, stored: ArrayProxy) -> NDArray[Any]:
    """Return the voxels of a packed file, unpacked in one go and checked, which nibabel does piece by piece without."""
    packed, end = path.read_bytes(), stored.offset + _bytes(stored)
    content = zlib.decompress(packed, wbits=GZIP, bufsize=end)
    if len(content) < end:  # the first of several members
        content = b"".join(_members(path, end))
    voxels: NDArray[Any] = np.ndarray(stored.shape, stored.dtype, content, stored.offset, order="F")
    return np.asarray(apply_read_scaling(voxels, stored.slope, stored.inter))


def _members(path: Path, end: int) -> Iterator[bytes]:
    """Yield the content of a packed file's members up to the one that holds byte ``end``; what follows is not read.

    Raises:
        EOFError, zlib.error: if there is no such byte, or a member is cut off or damaged.
    """
    with path.open("rb") as file:
        member, length, packed = zlib.decompressobj(GZIP), 0, b""
        while length < end or not member.eof:
            if member.eof:
                member, packed = zlib.decompressobj(GZIP), member.unused_data
            if not packed and not (packed := file.read(1 << 16)):
                raise EOFError("it is cut off")
            block, packed = member.decompress(packed), b""
            length += len(block)
            yield block


def _bytes(stored: ArrayProxy) -> int:
    return int(np.prod(stored.shape, dtype=np.int64)) * stored.dtype.itemsize


def _is_complete(path: Path, stored: ArrayProxy) -> bool:
    """Compare the length of a file, that which a gzip file records at its end, with the one its header announces."""
    expected = int(stored.offset) + _bytes(stored)
    if path.suffix.lower() != ".gz":
        return path.stat().st_size >= expected
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        recorded = struct.unpack("<I", file.read(4))[0]
    if recorded >= expected % 2**32 and recorded - expected % 2**32 < 1024:  # some writers pad the end
        return True
    try:  # a file of several members ends with the last one's length alone, or other bytes follow: only reading tells
        return sum(map(len, _members(path, expected))) >= expected
    except (EOFError, zlib.error):
        return False
