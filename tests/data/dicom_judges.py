"""Volumes to write as DICOM, and SimpleITK as the judge of what is read of them."""

from __future__ import annotations

import struct
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK
from nibabel.affines import apply_affine
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from med3d_components.data.dicom import DicomSeries
from tests.data.dicom_files import Change

VOLUME = np.random.default_rng(0).integers(-1000, 1000, (20, 16, 9))
AXIAL = np.array([[-0.7, 0, 0, 10], [0, -0.8, 0, 20], [0, 0, 1.5, -100], [0, 0, 0, 1]])
TURN = np.eye(4)
TURN[:3, :3] = Rotation.from_euler("xyz", (10, -20, 30), degrees=True).as_matrix()
OBLIQUE = TURN @ AXIAL


STORED = np.random.default_rng(1).integers(0, 2000, (10, 8, 24))
HU = STORED - 1024


def corners(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    return apply_affine(affine, list(product(*((0, length - 1) for length in shape))))


def read_by_simpleitk(series: DicomSeries) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels (i, j, k) and the corners in RAS mm."""
    files = [str(file) for file in series.files]
    image = SimpleITK.ReadImage(files if len(files) > 1 else files[0])
    index = product(*((0, length - 1) for length in image.GetSize()))
    points = [image.TransformIndexToPhysicalPoint([int(x) for x in one]) for one in index]
    return SimpleITK.GetArrayFromImage(image).T, np.array(points) * [-1, -1, 1]


def assert_as_simpleitk_reads(series: DicomSeries) -> None:
    voxels, points = read_by_simpleitk(series)
    np.testing.assert_allclose(series.read(), voxels, rtol=1e-6)
    np.testing.assert_allclose(corners(series.shape, series.affine), points, atol=0.01)


def setting(**values: object) -> Change:
    """Return a change that gives tags the values that depend on the slice, or one for all."""

    def change(header: Dataset, k: int) -> None:
        for keyword, value in values.items():
            setattr(header, keyword, value(k) if callable(value) else value)

    return change


def rename_tag(file: Path, old: tuple[int, int], new: tuple[int, int]) -> None:
    content = file.read_bytes()
    one, two = (struct.pack("<HH", *tag) for tag in (old, new))
    assert content[: content.index(b"MONOCHROME") + 100].count(one) == 1
    file.write_bytes(content.replace(one, two, 1))
