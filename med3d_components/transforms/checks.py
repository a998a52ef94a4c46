"""Checks of images and labels before a network sees them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from med3d_components.transforms.per_domain import of_domain

__all__ = ["CheckImaged", "CheckLabeld"]


class CheckImaged(MapTransform):
    """Refuse volumes that no normalisation can save: NaN or infinite voxels, or one value throughout.

    Raises:
        ValueError: saying which it is.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample unchanged."""
        for key in self.key_iterator(dict(data)):
            low, high = (float(value) for value in torch.aminmax(torch.as_tensor(data[key])))
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ValueError("the image holds NaN or infinite voxels; replace them, or leave the case out.")
            if low == high:
                raise ValueError(f"all voxels of the image are {low:g}; leave the case out.")
        return dict(data)


class CheckLabeld(MapTransform):
    """Refuse labels with values that the domain's ``dataset.json`` does not declare.

    Args:
        keys: labels.
        num_classes: number of classes, or domain name to number; values from 0 to it less one are allowed.
        domain_key: entry of the sample that names its domain.

    Raises:
        ValueError: naming the values.
    """

    def __init__(self, keys: KeysCollection, num_classes: Mapping[str, int] | int, domain_key: str = "domain") -> None:
        super().__init__(keys)
        self.num_classes = num_classes
        self.domain_key = domain_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample unchanged."""
        highest = of_domain(self.num_classes, data, self.domain_key) - 1
        for key in self.key_iterator(dict(data)):
            label = torch.as_tensor(data[key])
            if bool(((label < 0) | (label > highest) | (label != label.round())).any()):
                found = ", ".join(f"{value:g}" for value in label.unique()[:10].tolist())
                source = getattr(data[key], "meta", {}).get("filename_or_obj", key)
                raise ValueError(f"label {source} holds the values {found}, but dataset.json declares 0 to {highest}.")
        return dict(data)
