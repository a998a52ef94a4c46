"""Intensities by one of two rules, which an option chooses: a fixed range in HU, or the image's own statistics."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import KeepLargestConnectedComponentd, MapTransform, NormalizeIntensityd, ScaleIntensityRanged

from med3d_components.transforms.percentiles import FastClipIntensityPercentilesd

__all__ = ["ClipIntensityd", "KeepLargestComponentsd", "ZScored"]


class ClipIntensityd(MapTransform):
    """Clip to a range and scale it to 0 to 1, or clip to percentiles of the image where there is no range.

    All channels have the one range, and each has its own percentiles.

    Args:
        keys: of the images, (C, H, W, D).
        percentiles: lower and upper one, 0 to 100.
        intensity_range: in HU, or in the unit of the files; None for the percentiles.

    Example:
        >>> import torch
        >>> clip = ClipIntensityd("image", percentiles=(0.5, 99.5), intensity_range=(-1000, 1000))
        >>> clip({"image": torch.tensor([[-2000.0, 0.0, 500.0]])})["image"]
        metatensor([[0.0000, 0.5000, 0.7500]])
    """

    def __init__(
        self, keys: KeysCollection, percentiles: Sequence[float], intensity_range: Sequence[float] | None
    ) -> None:
        super().__init__(keys)
        self.rule = (
            FastClipIntensityPercentilesd(keys, lower=percentiles[0], upper=percentiles[1], channel_wise=True)
            if intensity_range is None
            else ScaleIntensityRanged(keys, *intensity_range, b_min=0, b_max=1, clip=True)
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its images clipped."""
        clipped: dict[Hashable, Any] = self.rule(data)
        return clipped


class ZScored(MapTransform):
    """Give each channel mean 0 and deviation 1; leave the image as it is where a range has scaled it already.

    Args:
        keys: of the images, (C, H, W, D).
        intensity_range: that :class:`ClipIntensityd` has scaled, or None.

    Example:
        >>> import torch
        >>> ZScored("image", intensity_range=None)({"image": torch.tensor([[1.0, 3.0]])})["image"]
        metatensor([[-1.,  1.]])
    """

    def __init__(self, keys: KeysCollection, intensity_range: Sequence[float] | None) -> None:
        super().__init__(keys)
        self.rule = NormalizeIntensityd(keys, channel_wise=True) if intensity_range is None else None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its images normalised."""
        return self.rule(data) if self.rule else dict(data)


class KeepLargestComponentsd(MapTransform):
    """Keep the largest connected components of each class of a mask.

    Args:
        keys: of the masks, each of shape (1, H, W, D).
        num_components: of each class; None for all.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[[[1, 1, 0, 1]]]])
        >>> KeepLargestComponentsd("pred", num_components=1)({"pred": mask})["pred"]
        metatensor([[[[1, 1, 0, 0]]]])
    """

    def __init__(self, keys: KeysCollection, num_components: int | None) -> None:
        super().__init__(keys)
        self.rule = num_components and KeepLargestConnectedComponentd(keys, num_components=num_components)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with what is left of its masks."""
        return self.rule(data) if self.rule else dict(data)
