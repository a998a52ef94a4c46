"""The channels of an image that the network sees."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from med3d_components.transforms.per_domain import of_domain

__all__ = ["SelectChanneld"]


class SelectChanneld(MapTransform):
    """Keep the one channel that a network of one sees, (C, H, W, D) to (1, H, W, D), or check that all are there.

    Args:
        keys: images.
        channel: index of the channel, or domain name to index. A single-channel image is taken as it is, None allows
            no other.
        in_channels: of the network; with several, images have as many, in the order of its training.
        domain_key: entry of the sample that names its domain.

    Raises:
        ValueError: if the image has several channels, but not that one; or another number than the network.

    Example:
        >>> import torch
        >>> SelectChanneld("image", {"Task01_BrainTumour": 2})({"image": torch.zeros(4, 8, 8, 8)})["image"].shape
        torch.Size([1, 8, 8, 8])
    """

    def __init__(
        self,
        keys: KeysCollection,
        channel: Mapping[str, int | None] | int | None,
        in_channels: int = 1,
        domain_key: str = "domain",
    ) -> None:
        super().__init__(keys)
        self.channel = channel
        self.in_channels = in_channels
        self.domain_key = domain_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the channels of its images that the network sees."""
        result = dict(data)
        for key in self.key_iterator(result):
            count = result[key].shape[0]
            if count == self.in_channels:
                continue
            if self.in_channels > 1:
                raise ValueError(
                    f"the image has {count} channel{'s' * (count > 1)}, but the network takes {self.in_channels}: give "
                    "a 4-D file of them, or a file for each, CASE_0000, CASE_0001 and so on."
                )
            result[key] = self._select(result[key], of_domain(self.channel, data, self.domain_key))
        return result

    @staticmethod
    def _select(image: Any, channel: int | None) -> Any:
        count = image.shape[0]
        if channel is None:
            raise ValueError(
                f"the image has {count} channels, but those of the training have one; give one 3-D volume per file."
            )
        if channel >= count:
            raise ValueError(f"the image has {count} channels, so there is no channel {channel}.")
        return image[channel : channel + 1]
