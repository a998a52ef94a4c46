"""The one channel of an image that the network sees."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from med3d_components.transforms.per_domain import of_domain

__all__ = ["SelectChanneld"]


class SelectChanneld(MapTransform):
    """Keep the one channel of a multi-channel image that the domain uses: (C, H, W, D) to (1, H, W, D).

    Args:
        keys: images.
        channel: index of the channel, or domain name to index. A single-channel image is taken as it is, None allows
            no other.
        domain_key: entry of the sample that names its domain.

    Raises:
        ValueError: if the image has several channels, but not that one.

    Example:
        >>> import torch
        >>> SelectChanneld("image", {"Task01_BrainTumour": 2})({"image": torch.zeros(4, 8, 8, 8)})["image"].shape
        torch.Size([1, 8, 8, 8])
    """

    def __init__(
        self, keys: KeysCollection, channel: Mapping[str, int | None] | int | None, domain_key: str = "domain"
    ) -> None:
        super().__init__(keys)
        self.channel = channel
        self.domain_key = domain_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with single-channel images."""
        result = dict(data)
        for key in self.key_iterator(result):
            if result[key].shape[0] > 1:
                channel = of_domain(self.channel, data, self.domain_key)
                if channel is None:
                    raise ValueError(
                        f"the image has {result[key].shape[0]} channels, but those of the training have one; "
                        "give one 3-D volume per file."
                    )
                if channel >= result[key].shape[0]:
                    raise ValueError(
                        f"the image has {result[key].shape[0]} channels, so there is no channel {channel}."
                    )
                result[key] = result[key][channel : channel + 1]
        return result
