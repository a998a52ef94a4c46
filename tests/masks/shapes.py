"""A mask with what is hard about masks, and a series to write it for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.data.dicom_files import write_series

CLASSES = ["background", "left lung", "liver tumour"]
SHAPE = (40, 32, 24)


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
