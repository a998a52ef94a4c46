"""Random crops around what a label shows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, SpatialCropd, SpatialPadd
from monai.transforms.utils import correct_crop_centers
from monai.utils import convert_to_numpy
from numpy.typing import NDArray

from med3d_components.transforms.per_domain import of_domain
from med3d_components.utils import as_flag

__all__ = ["RandForegroundCropd"]

Wanted = Callable[[NDArray[Any]], NDArray[np.bool_]]
"""Tells which voxels may be the centre."""


class RandForegroundCropd(Randomizable, MapTransform):
    """Crop a random region of the domain's size, padding volumes that are smaller.

    Half of the regions are centred on a voxel of the foreground, the others on one of the background, as those of
    MONAI's ``RandCropByPosNegLabeld`` with ``pos=1, neg=1``; where there is but one of the two, all on that. MONAI
    lists the indices of all voxels to draw one of them, which takes ten times as long; here a plane is drawn by the
    number of its voxels, then one of these.

    With ``balanced``, the centre's class is drawn evenly among those of the label instead, background included, as by
    MONAI's ``RandCropByLabelClassesd`` with equal ratios: a small tumour in a large liver is seen as often as that.

    Args:
        keys: image and label, (C, H, W, D).
        region: size in voxels, or domain name to size.
        balanced: draw the class of the centre evenly.
        label_key: entry of one channel with the numbers of the classes.
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
        balanced: bool | str = False,
        label_key: str = "label",
        domain_key: str = "domain",
    ) -> None:
        MapTransform.__init__(self, keys)
        self.region = region
        self.balanced = as_flag("balanced", balanced)
        self.label_key = label_key
        self.domain_key = domain_key
        self.center: Sequence[int] = ()

    def randomize(self, data: torch.Tensor) -> None:
        """Draw the centre of a region: a plane by the number of its voxels that may be it, then one of these.

        Args:
            data: label (1, H, W, D).
        """
        label = convert_to_numpy(data)[0]
        wanted, planes = self._draw_class(label) if self.balanced else self._draw_foreground(label)
        last = planes.cumsum()
        drawn = self.R.randint(last[-1])
        plane = int(np.searchsorted(last, drawn, side="right"))
        voxels = np.flatnonzero(wanted(label[plane]))
        # Counted from the end, where the running sum is known.
        row, column = divmod(int(voxels[drawn - last[plane]]), label.shape[2])
        self.center = plane, row, column

    def _draw_foreground(self, label: NDArray[Any]) -> tuple[Wanted, NDArray[np.int64]]:
        planes = np.count_nonzero(label, axis=(1, 2))
        foreground = bool(self.R.random() < 0.5)
        if not planes.any() or planes.sum() == label.size:
            foreground = bool(planes.any())
        return lambda voxels: (voxels != 0) == foreground, planes if foreground else label[0].size - planes

    def _draw_class(self, label: NDArray[Any]) -> tuple[Wanted, NDArray[np.int64]]:
        """Draw a class that the label has; up to the largest, others are passed over."""
        for drawn in self.R.permutation(int(label.max()) + 1):
            planes = np.count_nonzero(label == drawn, axis=(1, 2))
            if planes.any():
                break
        return lambda voxels: voxels == drawn, planes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample cropped."""
        size = of_domain(self.region, data, self.domain_key)
        result: dict[Hashable, Any] = SpatialPadd(self.keys, size)(data)
        label = result[self.label_key]
        self.randomize(label)
        center = correct_crop_centers(self.center, size, label.shape[1:])
        return SpatialCropd(self.keys, roi_center=center, roi_size=size)(result)
