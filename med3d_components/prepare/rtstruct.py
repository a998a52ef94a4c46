"""DICOM RT Structure Sets: contours in the world, filled on the grid of their scan."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from nibabel.affines import apply_affine, voxel_sizes
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from med3d_components.data.dicom_files import quiet
from med3d_components.data.itk_files import LPS_TO_RAS
from med3d_components.data.volumes import open_scan
from med3d_components.prepare.contours import fill_contours, reach_outside
from med3d_components.prepare.layer import Layer

__all__ = ["read_rtstruct"]

logger = logging.getLogger(__name__)

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "")
_UNDEFINED = 0xFFFFFFFF
_BORDER = 1.001  # voxels outside the scan, along any axis: outlines of the body touch the border
_SEEN_MM = 0.1


def read_rtstruct(path: Path, image: Path) -> Iterator[Layer]:
    """Read the structures of an RTSTRUCT, a layer for each, numbered from 1 in their order.

    How contours become voxels is told in ``contours.py``. A structure that reaches outside the scan is cut off there,
    and its layer tells how far it reaches.

    Args:
        path: of the RTSTRUCT.
        image: its scan.

    Raises:
        ValueError: if it cannot be read, or the contours of a structure are not parallel to the slices.
    """
    with quiet():
        outlines = [(name, _read_contours(f"{path}: {name}", item)) for name, item in _read_structures(path)]
    scan = open_scan(image)
    to_voxels = np.linalg.inv(scan.affine) @ LPS_TO_RAS
    spacing = voxel_sizes(scan.affine)
    for number, (name, contours) in enumerate(outlines, start=1):
        polygons = [apply_affine(to_voxels, contour) for contour in contours]
        region = fill_contours(f"{path}: {name}", polygons, scan.shape, float(spacing[2]))
        cut_mm = _cut_mm(f"{path}: {name}", reach_outside(polygons, scan.shape), spacing)
        yield Layer(region.astype(np.uint16) * np.uint16(number), scan.affine, {number: name}, cut_mm)


def _cut_mm(what: str, beyond: NDArray[np.float64], spacing: NDArray[np.float64]) -> float:
    """Return how far a structure reaches outside; a part of a voxel at the border is no more than told."""
    distance = float((beyond * spacing).max())
    if (beyond > _BORDER).any():
        return distance
    if distance > _SEEN_MM:
        logger.warning("%s reaches %.1f mm outside its scan; that border is cut off.", what, distance)
    return 0.0


def _read_structures(path: Path) -> list[tuple[str, Dataset | None]]:
    """Return the name of each structure, and the item with its contours, which an empty one may lack."""
    try:
        header = pydicom.dcmread(path, force=True)
        if any(map(_is_cut, (header.get_item(tag) for tag in list(header.keys())))):
            raise EOFError("it ends too early")
        contours = {int(item.ReferencedROINumber): item for item in header.ROIContourSequence}
        rois = [(int(roi.ROINumber), str(roi.get("ROIName") or "")) for roi in header.StructureSetROISequence]
    except Exception as e:  # pydicom raises whatever the bytes lead it to
        raise ValueError(f"{path} is cut off or no structure set ({e}); copy it anew.") from None
    return [(name.strip() or f"structure {number}", contours.get(number)) for number, name in rois]


def _is_cut(element: Any) -> bool:
    """Tell whether an element as it was read, values not parsed yet, has fewer bytes than its length says."""
    raw = isinstance(element, RawDataElement) and element.length != _UNDEFINED
    return raw and len(element.value or b"") < element.length


def _read_contours(what: str, item: Dataset | None) -> list[NDArray[np.float64]]:
    """Return the closed contours, (points, 3) in LPS mm each."""
    contours: Sequence[Any] = (item.get("ContourSequence") or []) if item else []
    closed = [each for each in contours if str(each.get("ContourGeometricType", "")) in _CLOSED]
    if len(closed) < len(contours):
        logger.warning("%s: %d points or open lines enclose nothing.", what, len(contours) - len(closed))
    try:
        points = [_read_numbers(each).reshape(-1, 3) for each in closed if "ContourData" in each]
    except ValueError:
        raise ValueError(f"{what} has a contour that is no list of points; export the structure set anew.") from None
    return [values for values in points if len(values) >= 3]


def _read_numbers(contour: Dataset) -> NDArray[np.float64]:
    """Return the numbers of a contour from their bytes, in a tenth of the time that pydicom's decimals take."""
    value = contour.get_item("ContourData").value
    text = value.decode("ascii", "replace").strip(" \0").split("\\") if isinstance(value, bytes) else value or []
    numbers = np.array([number for number in text if number != ""], float)
    if not np.isfinite(numbers).all():
        raise ValueError
    return numbers
