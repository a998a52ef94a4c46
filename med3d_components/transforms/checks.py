"""Transforms whose parameters may depend on the domain of the sample.

Such a parameter is one value for all samples, or a mapping from domain name to value.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, SpatialCropd, SpatialPadd
from monai.transforms.utils import correct_crop_centers
from monai.utils import convert_to_numpy

__all__ = ["CheckImaged", "CheckLabeld", "RandDomainCropd", "SelectChanneld", "each_domain", "of_domain"]

T = TypeVar("T")
R = TypeVar("R")


def of_domain(values: Mapping[str, T] | T, data: Mapping[Hashable, Any], domain_key: str = "domain") -> T:
    """Return the value for the domain of a sample.

    What is no mapping holds for every sample. From a mapping, a sample that names no domain takes the only entry.

    Raises:
        ValueError: if the sample's domain is not in ``values``, or it names none and there are several.
    """
    if not isinstance(values, Mapping):
        return values
    if domain_key in data:
        domain = data[domain_key]
        if domain in values:
            return cast(T, values[domain])
        raise ValueError(f"There is no domain {domain!r}; known are {', '.join(values)}.")
    if len(values) == 1:
        return cast(T, next(iter(values.values())))
    raise ValueError(f"The sample has no {domain_key!r} entry, and there are several domains: {', '.join(values)}.")


def each_domain(values: Mapping[str, T] | T, function: Callable[[T], R]) -> dict[str, R] | R:
    """Apply a function to the one value, or to that of each domain."""
    if isinstance(values, Mapping):
        return {name: function(value) for name, value in values.items()}
    return function(values)


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


class RandDomainCropd(Randomizable, MapTransform):
    """Crop a random region of the domain's size, padding volumes that are smaller.

    Half of the regions are centred on a voxel of the foreground, the others on one of the background, as those of
    MONAI's ``RandCropByPosNegLabeld`` with ``pos=1, neg=1``; where there is but one of the two, all on that. MONAI
    lists the indices of all voxels to draw one of them, which takes ten times as long; here a plane is drawn by the
    number of its voxels, then one of these.

    Args:
        keys: image and label, (C, H, W, D).
        region: size in voxels, or domain name to size.
        label_key: entry that tells the foreground, of one channel.
        domain_key: entry of the sample that names its domain.

    Example:
        >>> crop = RandDomainCropd(["image", "label"], {"liver": (16, 16, 16)})
        >>> crop({"image": torch.rand(1, 20, 20, 9), "label": torch.ones(1, 20, 20, 9)})["image"].shape
        torch.Size([1, 16, 16, 16])
    """

    def __init__(
        self,
        keys: KeysCollection,
        region: Mapping[str, Sequence[int]] | Sequence[int],
        label_key: str = "label",
        domain_key: str = "domain",
    ) -> None:
        MapTransform.__init__(self, keys)
        self.region = region
        self.label_key = label_key
        self.domain_key = domain_key
        self.center: Sequence[int] = ()

    def randomize(self, data: torch.Tensor) -> None:
        """Draw the centre of a region.

        Args:
            data: label (1, H, W, D).
        """
        label = convert_to_numpy(data)[0]
        planes = np.count_nonzero(label, axis=(1, 2))
        foreground = bool(self.R.random() < 0.5)
        if not planes.any() or planes.sum() == label.size:
            foreground = bool(planes.any())
        planes = planes if foreground else label[0].size - planes
        last = planes.cumsum()
        drawn = self.R.randint(last[-1])
        plane = int(np.searchsorted(last, drawn, side="right"))
        voxels = np.flatnonzero((label[plane] != 0) == foreground)
        # Counted from the end, where the running sum is known.
        row, column = divmod(int(voxels[drawn - last[plane]]), label.shape[2])
        self.center = plane, row, column

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample cropped."""
        size = of_domain(self.region, data, self.domain_key)
        result: dict[Hashable, Any] = SpatialPadd(self.keys, size)(data)
        label = result[self.label_key]
        self.randomize(label)
        center = correct_crop_centers(self.center, size, label.shape[1:])
        return SpatialCropd(self.keys, roi_center=center, roi_size=size)(result)
