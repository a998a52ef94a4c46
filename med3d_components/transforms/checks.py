"""Checks of images before a network sees them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

__all__ = ["CheckHounsfieldd", "CheckImaged"]

SOFT_TISSUE = (-150, 150)
"""In HU: fat, muscle, organs and blood, 22 to 84 % of the voxels of 37 CT scans of all parts of the body."""
OFFSET = 1024
"""The usual rescale intercept, with the other sign."""
SHARE = 0.1
"""Of a scan: of the same scans, bone and contrast filled 0.7 % or less of the range that lies so much higher."""
STEP = 3
"""One voxel of so many along each axis tells the shares."""


class CheckImaged(MapTransform):
    """Refuse volumes that no normalisation can save: NaN or infinite voxels, or one value throughout a channel.

    Raises:
        ValueError: saying which it is.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample unchanged."""
        for key in self.key_iterator(dict(data)):
            for what, channel in _channels(data[key]):
                low, high = (float(value) for value in torch.aminmax(channel))
                if not (np.isfinite(low) and np.isfinite(high)):
                    raise ValueError(f"{what} holds NaN or infinite voxels; replace them, or leave the case out.")
                if low == high:
                    raise ValueError(f"all voxels of {what} are {low:g}; leave the case out.")
        return dict(data)


class CheckHounsfieldd(MapTransform):
    """Refuse a CT whose values are 1024 off, as they are where the rescale intercept was left out or applied twice.

    A range of HU would make a single grey of its organs. Padding below air, such as -3024 around the field of view, is
    let pass, since a range clips it. The range is that of all channels, so each one is looked at.

    Args:
        keys: of CT scans.
        intensity_range: of the bundle. Scans are not looked at where it is not one of HU, but 0 to 1, or None.

    Raises:
        ValueError: naming the offset.

    Example:
        >>> body = torch.full((1, 20, 20, 20), 40.0)
        >>> body[..., :10] = -1000
        >>> check = CheckHounsfieldd("image", intensity_range=(-200, 250))
        >>> check({"image": body})["image"] is body
        True
        >>> check({"image": body + 1024})
        Traceback (most recent call last):
        ...
        ValueError: the image is no CT in HU, but 1024 higher: its rescale intercept was left out; take 1024 off.
    """

    def __init__(self, keys: KeysCollection, intensity_range: Sequence[float] | None) -> None:
        super().__init__(keys)
        self.is_hu = intensity_range is not None and intensity_range[0] < 0

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample unchanged."""
        for key in self.key_iterator(dict(data)) if self.is_hu else ():
            for what, channel in _channels(data[key]):
                _check_offset(channel[::STEP, ::STEP, ::STEP], what)
        return dict(data)


def _channels(image: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what a message calls each channel of an image (C, H, W, D), and the channel."""
    for number, channel in enumerate(torch.as_tensor(image)):
        yield "the image" if len(image) == 1 else f"channel {number} of the image", channel


def _check_offset(few: torch.Tensor, what: str) -> None:
    if _soft_tissue(few - OFFSET) > SHARE:
        raise ValueError(
            f"{what} is no CT in HU, but {OFFSET} higher: its rescale intercept was left out; take {OFFSET} off."
        )
    # Air lies where soft tissue would, so there must be no other, and values that no CT has.
    low = float((few < 1.5 * -OFFSET).float().mean())
    if _soft_tissue(few + OFFSET) > SHARE and _soft_tissue(few) < SHARE**2 < low:
        raise ValueError(
            f"{what} is no CT in HU, but {OFFSET} lower: its rescale intercept was applied twice; add {OFFSET}."
        )


def _soft_tissue(image: torch.Tensor) -> float:
    low, high = SOFT_TISSUE
    return float(((image >= low) & (image <= high)).float().mean())
