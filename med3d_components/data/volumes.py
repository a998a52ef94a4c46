"""Where a scan lies in the world, and any box of its voxels without reading the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from med3d_components.data.dicom import is_dicom_folder, read_series
from med3d_components.data.headers import read_header

__all__ = ["Scan", "open_scan"]

Box = tuple[slice, slice, slice]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Scan:
    """A volume on disk, of which only the header has been read.

    Attributes:
        path: its file, or its folder of DICOM slices.
        shape: voxels along the axes of the file.
        affine: (4, 4), from voxel to world, RAS in mm.
        read_box: reads a box of voxels, as an array.
    """

    path: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    read_box: Callable[[Box], np.ndarray]

    def read(self, lower: Sequence[int] = (0, 0, 0), upper: Sequence[int] | None = None) -> np.ndarray:
        """Return the voxels from ``lower`` up to but without ``upper``, as float32; all of them if none are given."""
        x, y, z = (slice(int(a), int(b)) for a, b in zip(lower, self.shape if upper is None else upper, strict=True))
        return np.asarray(self.read_box((x, y, z)), dtype=np.float32)

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


def open_scan(path: str | os.PathLike[str], spacing: Sequence[float] | None = None) -> Scan:
    """Read the header of a NIfTI, NRRD or MetaImage file, or of a folder with a DICOM series.

    Headers are kept, so several nodules of a scan cost one.

    Args:
        path: the file or folder.
        spacing: in mm along the axes of the file, where its header has none.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it is no readable volume of three dimensions and one channel.

    Example:
        >>> scan = open_scan("ct.nii.gz")  # doctest: +SKIP
        >>> scan.read((10, 10, 10), (58, 58, 58)).shape  # doctest: +SKIP
        (48, 48, 48)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; add it, or drop its entry from the list.")
    scan = _open(path, path.stat().st_mtime_ns)
    if spacing is None:
        return scan
    affine = scan.affine.copy()
    affine[:3, :3] *= np.asarray(spacing) / np.linalg.norm(affine[:3, :3], axis=0)
    return replace(scan, affine=affine)


@lru_cache(maxsize=1024)
def _open(path: Path, modified: int) -> Scan:
    """Read a header, once as long as the file stays the same."""
    shape: Sequence[int]
    if path.is_dir():
        if not is_dicom_folder(path):
            raise ValueError(f"{path} is a folder without a DICOM series; name a volume or a folder of DICOM slices.")
        series = read_series(path)
        shape, affine, read_box = series.shape, series.affine, partial(_read_dicom, series.files)
    elif path.name.lower().endswith((".nii", ".nii.gz")):
        channels = read_header(path).channels
        image = nib.load(path)
        shape, affine, read_box = image.shape[:3], image.affine, partial(_read_nifti, image)
        if channels > 1:
            raise ValueError(f"{path} is 4-D, of shape {image.shape}, but a scan must have one channel; split it.")
    else:
        shape, affine = _itk_header(path)
        read_box = partial(_read_itk, path)
    x, y, z = (int(length) for length in shape)
    return Scan(str(path), (x, y, z), np.asarray(affine, dtype=float), read_box)


def _read_nifti(image: Any, box: Box) -> np.ndarray:
    return np.asarray(image.dataobj[box]).reshape([axis.stop - axis.start for axis in box])


def _read_dicom(files: Sequence[Path], box: Box) -> np.ndarray:
    """Read the slices of a box, in Hounsfield units if it is a CT."""
    volume = itk.imread([str(file) for file in files[box[2]]], itk.F)
    return itk.array_from_image(volume).T[box[:2]]


def _itk_reader(path: Path) -> Any:
    reader = itk.ImageFileReader[itk.Image[itk.F, 3]].New(FileName=str(path))
    try:
        reader.UpdateOutputInformation()
    except RuntimeError as e:
        reason = str(e).strip().splitlines()[-1]
        raise ValueError(f"{path} is not a readable volume ({reason}); replace or convert it.") from e
    return reader


def _itk_header(path: Path) -> tuple[Sequence[int], np.ndarray]:
    """Return shape and affine of a file that ITK reads."""
    reader = _itk_reader(path)
    file, volume = reader.GetImageIO(), reader.GetOutput()
    if file.GetNumberOfDimensions() != 3 or file.GetNumberOfComponents() != 1:
        raise ValueError(
            f"{path} has {file.GetNumberOfDimensions()} dimensions and {file.GetNumberOfComponents()} channels, "
            "but a scan must have three and one; split it."
        )
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(volume.GetDirection()) * np.asarray(volume.GetSpacing())
    affine[:3, 3] = volume.GetOrigin()
    return tuple(volume.GetLargestPossibleRegion().GetSize()), LPS_TO_RAS @ affine


def _read_itk(path: Path, box: Box) -> np.ndarray:
    """Read a box; of a MetaImage that is not compressed, ITK reads no more than that from disk."""
    region = itk.ImageRegion[3]()
    region.SetIndex([axis.start for axis in box])
    region.SetSize([axis.stop - axis.start for axis in box])
    reader = _itk_reader(path)  # named, since its output outlives it without voxels
    part = itk.region_of_interest_image_filter(reader.GetOutput(), region_of_interest=region)
    return itk.array_from_image(part).T
