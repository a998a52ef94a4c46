"""Random crops around the foreground of a label."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, SpatialCropd, SpatialPadd
from monai.transforms.utils import correct_crop_centers
from monai.utils import convert_to_numpy

from med3d_components.transforms.per_domain import of_domain

__all__ = ["RandForegroundCropd"]


class RandForegroundCropd(Randomizable, MapTransform):
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
        >>> crop = RandForegroundCropd(["image", "label"], {"liver": (16, 16, 16)})
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
