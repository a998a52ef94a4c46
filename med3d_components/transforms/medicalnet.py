"""Prepare volumes the way MedicalNet's released demonstration does.

This is not the preprocessing of the paper, see :class:`MedicalNetDemoPreprocessd`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Randomizable, Resize

from med3d_components.transforms.spacing import is_label_key

__all__ = ["MedicalNetDemoPreprocessd"]


class MedicalNetDemoPreprocessd(MapTransform, InvertibleTransform, Randomizable):
    """Resize to a fixed shape and normalise as MedicalNet's demonstration on MRBrainS18 does.

    Use it to repeat the demonstration, or to feed brain MRI to weights that were fine-tuned its way. For anything
    else prefer the paper's preprocessing (median spacing, percentile clip, z-score over all voxels): here spacing and
    aspect ratio are lost, and mean and standard deviation come from the voxels above 0 alone. On CT these leave out
    air, lung and fat (HU <= 0), so that a body's mean comes out hundreds of HU too high.

    Images and labels are resized with nearest-neighbour interpolation. Images then become ``(v - mean) / std`` in
    every voxel, with mean and standard deviation of the voxels ``v > 0``. Keys with "label" or "mask" in their name
    are labels. The grids share their outer borders, so that the affine is right; the demonstration lets the outermost
    voxels' centres coincide, which differs by at most half a voxel of the coarser grid.

    For an inverse with exact centres use ``Invertd(..., nearest_interp=False)``: the interpolation is nearest already,
    and ``True`` would exchange it for one that is up to half a voxel off.

    Args:
        keys: of the volumes, each of shape (C, H, W, D).
        spatial_size: the shape to reach, by the order of the array's axes; the demonstration's is (56, 448, 448).
        noise: fill the image's voxels equal to 0 with N(0, 1) noise, as the demonstration does, at test time too. Off
            by default, since results then depend on the draw; the random state starts from seed 0 and follows
            ``set_random_state``.
        allow_missing_keys: skip the keys that a sample lacks.

    Raises:
        ValueError: if an image has no two different values above 0.

    Example:
        >>> sample = {"image": torch.arange(64.0).reshape(1, 4, 4, 4)}
        >>> MedicalNetDemoPreprocessd("image", spatial_size=(2, 8, 8))(sample)["image"].shape
        torch.Size([1, 2, 8, 8])
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: Sequence[int] = (56, 448, 448),
        noise: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.resize = Resize(spatial_size, mode="nearest-exact")
        self.noise = noise
        self.set_random_state(seed=0)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its volumes resized and its images normalised."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.resize(d[key])
            if not is_label_key(key):
                d[key] = self._normalize(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its volumes resized back; intensities stay normalised."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.resize.inverse(d[key])
        return d

    def _normalize(self, img: MetaTensor) -> MetaTensor:
        values = img.as_tensor()
        positive = values[values > 0]
        if positive.numel() == 0 or positive.min() == positive.max():
            raise ValueError(
                f"{img.meta.get('filename_or_obj', 'The image')} has no two different values above 0, from which the "
                "MedicalNet demonstration takes mean and standard deviation; use another normalisation."
            )
        out = (values - positive.mean()) / positive.std(unbiased=False)
        if self.noise:
            empty = values == 0
            draw = self.R.standard_normal(int(empty.sum()))
            out[empty] = torch.as_tensor(draw, dtype=out.dtype, device=out.device)
        return MetaTensor(out).copy_meta_from(img)
