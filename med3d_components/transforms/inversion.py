"""From the probabilities on the network's grid to a mask on the scan's own, in little memory."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Invertd

__all__ = ["InvertToLabelsd"]


class InvertToLabelsd(Invertd):
    """Invert the preprocessing of probabilities and take the likeliest class, one class after the other.

    The labels equal those of ``Invertd`` and ``AsDiscreted(argmax=True)``; of all the classes, only the best so
    far and the next are held on the scan's grid, where each takes 600 MiB for 512x512x600 voxels.

    Args: as those of MONAI's ``Invertd``. Items of shape (C, h, w, d) become labels of shape (1, H, W, D) in uint8.

    Raises:
        ValueError: for more than 256 classes.

    Example:
        >>> from monai.transforms import Compose, Flipd
        >>> flip = Compose([Flipd("image", spatial_axis=0)])
        >>> sample = flip({"image": MetaTensor(torch.arange(4.0).reshape(1, 4, 1, 1))})
        >>> pred = MetaTensor(torch.cat([sample["image"] * 0 + 2.5, sample["image"]]))
        >>> InvertToLabelsd("pred", flip, "image")({**sample, "pred": pred})["pred"].flatten().tolist()
        [0, 0, 0, 1]
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the labels in place of the probabilities."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._labels(d, key)
        return d

    def _labels(self, data: Mapping[Hashable, Any], key: Hashable) -> MetaTensor:
        probabilities = data[key]
        if len(probabilities) > 256:
            raise ValueError(f"{key!r} has {len(probabilities)} classes, but labels in uint8 can tell 256.")
        first = super().__call__({**data, key: probabilities[:1]})[key]
        best = first.as_tensor()
        labels = torch.zeros_like(best, dtype=torch.uint8)
        for index in range(1, len(probabilities)):
            one = super().__call__({**data, key: probabilities[index : index + 1]})[key].as_tensor()
            # The first of equals wins, as in argmax.
            labels.masked_fill_(one > best, index)
            best = torch.maximum(best, one)
        return MetaTensor(labels).copy_meta_from(first)
