"""A mask with what is hard about masks, and scans to write it for: DICOM series, and NIfTI with any header."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.data.dicom_files import write_series

CLASSES = ["background", "left lung", "liver tumour"]
SHAPE = (40, 32, 24)
QUATERNION = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


def nested_mask() -> NDArray[Any]:
    """Return a ball with two holes, one of which holds an island, another class in the other, and parts at borders."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[ball((18, 15, 12), 12)] = 1
    for center, radius, value in (
        ((14, 15, 12), 4, 0),
        ((14, 15, 12), 2, 1),
        ((24, 15, 12), 4, 0),
        ((24, 15, 12), 3, 2),
    ):
        mask[ball(center, radius)] = value
    mask[34:, :9, 3:7] = 2
    return mask


def ball(center: tuple[int, int, int], radius: float) -> NDArray[Any]:
    away = np.indices(SHAPE) - np.reshape(center, (3, 1, 1, 1))
    return np.square(away).sum(axis=0) <= radius**2


def oblique_affine() -> NDArray[Any]:
    """Return voxel to RAS mm, as DICOM's slices can have it."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (5, -4, 3), degrees=True).as_matrix() * [-1.5, -1.4, 2.5]
    affine[:3, 3] = (30, 40, -50)
    return affine


def upright_affine() -> NDArray[Any]:
    affine = np.diag([-1.5, -1.5, 2.5, 1])
    affine[:3, 3] = (30, 40, -50)
    return affine


def write_scan(folder: Path, affine: NDArray[Any], without: Iterable[str] = ()) -> Path:
    """Write a CT of the mask, and delete tags as those who anonymise do."""
    write_series(folder, np.where(nested_mask() > 0, 100, -100), affine, shuffle=True)
    for file in folder.iterdir():
        header = pydicom.dcmread(file)
        header.PatientName, header.StudyID, header.FrameOfReferenceUID = (
            "Doe^Jane",
            "7",
            "1.2.826.0.1.3680043.10.1000.1",
        )
        for keyword in set(without) & set(header.dir()):
            delattr(header, keyword)
        header.save_as(file)
    return folder


def turned() -> NDArray[Any]:
    """Return voxel to RAS mm, turned by 10 degrees."""
    affine = np.eye(4)
    angle = np.deg2rad(10)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= (1.5, 1.5, 2.5)
    return affine


def scan_header(kind: str) -> Any:
    """Return the header of a scan of a kind."""
    head = nib.Nifti2Header() if kind == "NIfTI-2" else nib.Nifti1Header(endianness=">" if "endian" in kind else "<")
    head.set_data_dtype(np.int16)
    head.set_data_shape({"one slice": (*SHAPE[:2], 1), "two axes": SHAPE[:2], "channels": (*SHAPE, 3)}.get(kind, SHAPE))
    unit = {"metres": 0.001, "microns": 1000}.get(kind, 1)
    head["pixdim"][1:4] = 1.5 * unit, 1.5 * unit, 2.5 * unit
    head.set_xyzt_units({"metres": "meter", "microns": "micron", "no unit": "unknown"}.get(kind, "mm"), "sec")
    lps = np.diag([-1.5, -1.5, 2.5, 1])
    lps[:3, 3] = 33.3, 20.1, -7.7
    lps[:3] *= unit
    head.set_sform(lps, 1)
    head.set_qform(lps, 1)
    if kind == "forms apart":
        head.set_qform(turned(), 1)
        head["sform_code"] = 2
    if kind == "both codes 0":
        head["sform_code"] = head["qform_code"] = 0
    if kind == "qform alone":
        head.set_qform(turned(), 1)
        head["sform_code"] = 0
    if kind == "no quaternion":
        head["qform_code"] = 0
        for field in QUATERNION:
            head[field] = 0
        head["pixdim"][1] *= 1.00002
    if kind == "oblique":
        head.set_sform(oblique_affine(), 1)
        head.set_qform(oblique_affine(), 1)
    head["vox_offset"] = head.single_vox_offset
    head["descrip"], head["intent_code"], head["scl_slope"] = b"Doe^Jane", 1001, 1
    return head


def write_by_bytes(path: Path, head: Any, voxels: NDArray[Any] | None = None) -> Path:
    """Write a scan by the bytes of its header, which nibabel's writer would put right."""
    content = head.binaryblock + bytes(head.single_vox_offset - head.sizeof_hdr)
    voxels = np.zeros(head.get_data_shape()) if voxels is None else voxels
    content += voxels.astype(head.get_data_dtype()).tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)
    return path
