"""Training regions around an organ (Chen, Ma, Zheng 2019, figure 8)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.networks.layers import AffineTransform
from monai.transforms import MapTransform, Randomizable
from monai.transforms.utils import create_rotate, generate_spatial_bounding_box
from monai.utils import convert_to_numpy

from med3d_components.transforms.spacing import spacing_of, with_affine

__all__ = ["RandRegionOfInterestd"]


class RandRegionOfInterestd(Randomizable, MapTransform):
    """Crop the box around the foreground, randomly expanded, translated and rotated.

    The training regions of the second stage of LiTS's cascade: the box that holds all of the label above 0 is
    expanded by up to ``expand_mm`` at each of its six faces, moved by up to ``translate_mm`` either way along each
    axis, and turned by up to ``rotate_degrees`` either way about each axis through its centre. The paper does not
    give the ranges. All draws are uniform.

    The box is then clipped to the scan, and widened to ``at_least`` as far as the scan goes, as regions of inference
    are (:class:`CascadeInferer`): where a scan ends within the organ, both see the same.

    Without rotation the region is cut out, to the nearest voxel; with rotation it is resampled once, from the part of
    the volume that it covers: images trilinearly to float32, the label by nearest neighbour. Corners that turn out of
    the scan hold the lowest value of the image's channel (air in CT), the label 0. The affines are those of the region.
    A label without foreground takes the whole volume for its box. Meant for training: it cannot be inverted.

    Args:
        keys: images and label of one grid, (C, H, W, D); all but ``label_key`` are images.
        label_key: entry of the label map, (1, H, W, D), a MetaTensor, whose affine gives the spacing.
        expand_mm: most that a face moves outward, in mm.
        translate_mm: most that the box moves, in mm. More than half the organ's size can lose it.
        rotate_degrees: most that the box turns.
        at_least: voxels per axis that the region has, unless the scan has fewer.

    Raises:
        ValueError: for a range that is negative or no number; when applied, for a label without valid spacing, or an
            image of another size.

    Example:
        >>> label = MetaTensor(torch.zeros(1, 20, 20, 20))
        >>> label[:, 5:15, 5:15, 8:12] = 1
        >>> crop = RandRegionOfInterestd(["image", "label"], expand_mm=0, translate_mm=0, rotate_degrees=10)
        >>> crop({"image": MetaTensor(torch.rand(1, 20, 20, 20)), "label": label})["image"].shape
        torch.Size([1, 10, 10, 4])
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "label",
        expand_mm: float = 0.0,
        translate_mm: float = 0.0,
        rotate_degrees: float = 0.0,
        at_least: Sequence[int] = (1, 1, 1),
    ) -> None:
        MapTransform.__init__(self, keys)
        self.label_key = label_key
        self.expand_mm = _check_range("expand_mm", expand_mm)
        self.translate_mm = _check_range("translate_mm", translate_mm)
        self.rotate_degrees = _check_range("rotate_degrees", rotate_degrees)
        self.at_least = np.array(at_least)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its region."""
        result = dict(data)
        label = result[self.label_key]
        to_voxel, size = self.randomize(label)
        for key in self.key_iterator(result):
            spacing_of(result[key])  # an error if it has none
            if result[key].shape[1:] != label.shape[1:]:
                raise ValueError(
                    f"{key} has the size {tuple(result[key].shape[1:])}, but {self.label_key} "
                    f"{tuple(label.shape[1:])}; bring both to one grid before."
                )
            result[key] = _region(result[key], to_voxel, size, is_label=key == self.label_key)
        return result

    def randomize(self, data: MetaTensor) -> tuple[np.ndarray, tuple[int, ...]]:
        """Draw the region of a label.

        Args:
            data: the label.

        Returns:
            The matrix (4, 4) that takes a voxel of the region to its place in the volume, in voxels, and the
            region's size.
        """
        spacing = np.array(spacing_of(data))
        low, high = np.array(generate_spatial_bounding_box(convert_to_numpy(data)), dtype=float)
        if not high.any():
            low, high = np.zeros(3), np.array(data.shape[1:], dtype=float)
        expansion = self.R.uniform(0, self.expand_mm, (2, 3)) / spacing
        shift = self.R.uniform(-self.translate_mm, self.translate_mm, 3) / spacing
        angles = np.deg2rad(self.R.uniform(-self.rotate_degrees, self.rotate_degrees, 3))
        low, high = low - expansion[0] + shift, high + expansion[1] + shift
        low, high = _within(low, high, self.at_least, np.array(data.shape[1:]))
        size = np.maximum(1, np.rint(high - low)).astype(int)
        first, centre = (size - 1) / 2, (low + high - 1) / 2  # of voxels, whose faces lie half a voxel further out
        to_voxel = np.eye(4)
        if angles.any():
            # An angle is one in mm: voxels that are no cubes would shear it.
            to_voxel[:3, :3] = create_rotate(3, angles)[:3, :3] * spacing / spacing[:, None]
            to_voxel[:3, 3] = centre - to_voxel[:3, :3] @ first
        else:
            to_voxel[:3, 3] = np.rint(centre - first)
        return to_voxel, tuple(size.tolist())


def _check_range(name: str, value: float) -> float:
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}, but must be zero or a positive number.")
    return float(value)


def _within(low: np.ndarray, high: np.ndarray, at_least: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clip a box to the scan, a voxel of which it keeps, and widen it to ``at_least`` as far as the scan goes."""
    low, high = np.clip(low, 0, size - 1), np.clip(high, 1, size)
    half = np.maximum(at_least - (high - low), 0) / 2
    shift = np.maximum(half - low, 0) - np.maximum(high + half - size, 0)
    return np.maximum(low - half + shift, 0), np.minimum(high + half + shift, size)


def _region(volume: MetaTensor, to_voxel: np.ndarray, size: tuple[int, ...], is_label: bool) -> MetaTensor:
    """Return the region of a volume (C, H, W, D) whose voxels lie where ``to_voxel`` takes them."""
    affine = np.asarray(volume.affine) @ to_voxel
    rotation, offset = to_voxel[:3, :3], to_voxel[:3, 3]
    if np.array_equal(rotation, np.eye(3)):
        return with_affine(_cut(volume.as_tensor(), offset, size, is_label), volume, affine)
    first = (np.array(size) - 1) / 2
    half, centre = np.abs(rotation) @ first, offset + rotation @ first
    start = np.floor(centre - half)
    covered = _cut(volume.as_tensor(), start, np.ceil(centre + half) - start + 1, is_label)
    theta = to_voxel.copy()
    theta[:3, 3] -= start
    # align_corners=False is exact too where the cut is one voxel thick.
    resample = AffineTransform(
        size, mode="nearest" if is_label else "bilinear", padding_mode="border", align_corners=False
    )
    region = resample(covered[None].float(), torch.as_tensor(theta, dtype=torch.float32, device=covered.device))[0]
    return with_affine(region.to(covered.dtype) if is_label else region, volume, affine)


def _cut(volume: torch.Tensor, start: Any, size: Any, is_label: bool) -> torch.Tensor:
    """Return a copy of a box of a volume (C, H, W, D), padded where it reaches beyond."""
    low, high = np.array(start, dtype=int), np.array(start, dtype=int) + np.array(size, dtype=int)
    ends = np.clip([low, high], 0, volume.shape[1:])
    part = volume[_slices(ends)]
    if part.shape[1:] == tuple(high - low):
        return part.clone()
    fill = volume.new_zeros(()) if is_label else volume.amin((1, 2, 3), keepdim=True)
    box = fill.to(volume.dtype).expand(len(volume), *(high - low)).clone()
    box[_slices(ends - low)] = part
    return box


def _slices(ends: np.ndarray) -> tuple[slice, ...]:
    return (slice(None), *(slice(start, stop) for start, stop in ends.T.tolist()))
