"""Cubes around nodules, read from scans without reading the rest of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import product
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys, SpaceKeys
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import affine_transform

from med3d_components.data.scan import Scan
from med3d_components.data.volumes import open_scan
from med3d_components.utils.checks import three_positive

__all__ = ["LoadImageCubed"]

OPTIONAL = ("center_mm", "mask", "spacing")


class LoadImageCubed(MapTransform):
    """Load a cube around a nodule, along the axes of the world (RAS): a path becomes a volume (1, H, W, D).

    A sample with "center_mm" (RAS, mm) gets the cube around that point at the given spacing, out of which only the
    voxels needed are read. Of an even number of voxels the centre lies between the two in the middle. Voxels outside
    the scan continue its border. A sample without gets its whole volume, oriented to RAS and resized to ``size``; what
    it shows in mm stays the same, so its spacing is its own.

    Interpolation is trilinear, without smoothing before a reduction, of oblique scans as well. The volumes are
    MetaTensors, float32, with the affine of the cube.

    "center_mm", "spacing" and "mask" are optional, and a batch is collated from samples with equal entries alone. So
    these three are left out of the result, unless they are among ``keys``; the affine tells where the cube lies.

    Args:
        keys: entries with a path, of a file or of a folder with a DICOM series.
        size: of the cube in voxels: three, or one for all axes.
        spacing: in mm: three, or one for all axes.
        allow_missing_keys: true to pass over keys that a sample lacks.

    Raises:
        ValueError: for an invalid size or spacing; and, on reading, for a 4-D volume or a centre outside the scan.

    Example:
        >>> load = LoadImageCubed("image", size=48, spacing=1.0)
        >>> load({"image": "ct.nii.gz", "center_mm": [31.0, -20.5, 110.0]})["image"].shape
        torch.Size([1, 48, 48, 48])
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int] | int,
        spacing: Sequence[float] | float,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = [int(n) for n in three_positive("size", size, "integers", whole=True, single=True)]
        self.spacing = three_positive("spacing", spacing, "lengths in mm", single=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its paths replaced by volumes."""
        result = {key: value for key, value in data.items() if key not in OPTIONAL or key in self.keys}
        for key in self.key_iterator(result):
            scan = open_scan(data[key], data.get("spacing"))
            scan.check_one_channel()
            affine = self._grid(scan, data.get("center_mm"))
            meta = {MetaKeys.SPACE: SpaceKeys.RAS, "filename_or_obj": scan.path}
            result[key] = MetaTensor(_resample(scan, affine, self.size)[None], affine=torch.tensor(affine), meta=meta)
        return result

    def _grid(self, scan: Scan, center_mm: Sequence[float] | None) -> np.ndarray:
        """Return the affine of the cube."""
        if center_mm is None:
            return _whole(scan, self.size)
        scan.check_inside(center_mm)
        corner = np.asarray(center_mm) - np.multiply(self.spacing, np.subtract(self.size, 1)) / 2
        return from_matvec(np.diag(self.spacing), corner)


def _whole(scan: Scan, size: Sequence[int]) -> np.ndarray:
    """Return the affine of the whole scan, its axes in the order of RAS, divided into so many voxels."""
    orientation = nib.io_orientation(scan.affine)
    ras = scan.affine @ nib.orientations.inv_ornt_aff(orientation, scan.shape)
    scale = np.array(scan.shape)[np.argsort(orientation[:, 0])] / size
    # The outer faces coincide, not the centres of the outer voxels.
    return ras @ from_matvec(np.diag(scale), (scale - 1) / 2)


def _resample(scan: Scan, affine: np.ndarray, size: Sequence[int]) -> torch.Tensor:
    """Return a grid of voxels, out of the smallest box of the scan that holds it."""
    to_voxel = np.linalg.inv(scan.affine) @ affine
    corners = apply_affine(to_voxel, list(product(*[(0, length - 1) for length in size])))
    # A voxel of margin, for rounding; and at least one voxel, for a cube that is smaller than that.
    last = np.subtract(scan.shape, 1)
    lower = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, last)
    upper = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, last) + 1
    to_voxel[:3, 3] -= lower
    box = scan.read(lower, upper)
    return torch.from_numpy(affine_transform(box, to_voxel, output_shape=tuple(size), order=1, mode="nearest"))
