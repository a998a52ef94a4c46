"""How sure a network is of each voxel's class."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

__all__ = ["Confidenced"]


class Confidenced(MapTransform):
    """Add "confidence", the probability of the likeliest class, before only the class is left of a prediction.

    One class after the other is added up, so that beside the prediction it takes the memory of two of its channels,
    where a softmax takes that of all.

    Args:
        keys: the prediction, of shape (C, H, W, D); the confidence is of shape (1, H, W, D) and float32.
        softmax: whether the prediction is logits; false for probabilities.

    Example:
        >>> logits = torch.tensor([0.9, 0.1]).log().reshape(2, 1, 1, 1)
        >>> round(Confidenced("pred")({"pred": logits})["confidence"].item(), 3)
        0.9
    """

    def __init__(self, keys: KeysCollection, softmax: bool = True) -> None:
        super().__init__(keys)
        self.softmax = softmax

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the confidence of the prediction."""
        d = dict(data)
        for key in self.key_iterator(d):
            largest = d[key].amax(dim=0, keepdim=True).float()
            if not self.softmax:
                d["confidence"] = largest
                continue
            total = torch.zeros_like(largest)
            for channel in d[key].split(1):
                total += (channel.float() - largest).exp_()
            d["confidence"] = total.reciprocal_()
        return d
