"""Random crops around the foreground of a label, and out of the lungs of a CT scan.

Cubes of lung are what Models Genesis learns from (Zhou et al., MICCAI 2019; MedIA 2021).
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, SpatialCrop, SpatialCropd, SpatialPad, SpatialPadd
from monai.transforms.traits import MultiSampleTrait
from monai.transforms.utils import correct_crop_centers
from monai.utils import convert_to_numpy, convert_to_tensor
from torch.nn.functional import pad

from med3d_components.transforms.distortion import common_size
from med3d_components.transforms.per_domain import of_domain

__all__ = ["RandForegroundCropd", "RandTissueCropd", "tissue_share"]

logger = logging.getLogger(__name__)


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


class RandTissueCropd(Randomizable, MapTransform, MultiSampleTrait):
    """Cut random cubes of little solid tissue out of a CT scan in HU: one sample becomes several.

    A cube is drawn again, up to ``tries`` times, while its :func:`tissue_share` is above ``max_tissue``, which leaves
    cubes of lung. If none will do, the one with the least tissue is taken, so that every scan gives ``count`` cubes;
    the published code drops what is missing. A message of level debug says so.

    Cubes keep ``margin`` voxels off the border on both sides, uniformly placed between. On an axis that is too short
    for that they lie in the middle half of what is possible; the published code leaves such a scan out. A scan smaller
    than the cube is padded with its lowest value. Affines follow. Run it before intensities are scaled.

    Args:
        keys: volumes of one grid, (C, H, W, D). The first is the scan in HU that tells the tissue.
        region: size of the cubes in voxels.
        count: number of cubes.
        threshold: from here on, in HU, it is tissue.
        max_tissue: largest share of tissue that is taken. 1 takes all.
        slices: see :func:`tissue_share`.
        margin: in voxels.
        tries: most draws for a cube.

    Raises:
        ValueError: for an impossible argument; when applied, for volumes that are not 4-D or differ in size.

    Example:
        >>> scan = torch.full((1, 96, 96, 64), -800.0)
        >>> [sample["image"].shape for sample in RandTissueCropd("image", count=2)({"image": scan})]
        [torch.Size([1, 64, 64, 32]), torch.Size([1, 64, 64, 32])]
    """

    def __init__(
        self,
        keys: KeysCollection,
        region: Sequence[int] = (64, 64, 32),
        count: int = 1,
        threshold: float = -150.0,
        max_tissue: float = 0.15,
        slices: int = 3,
        margin: Sequence[int] = (100, 100, 30),
        tries: int = 50,
    ) -> None:
        MapTransform.__init__(self, keys)
        self.region = _check("region", region, 1)
        self.margin = _check("margin", margin, 0)
        for name, number in (("count", count), ("slices", slices), ("tries", tries)):
            if number < 1:
                raise ValueError(f"{name} is {number}, but must be 1 or more.")
        if not 0 <= max_tissue <= 1:
            raise ValueError(f"max_tissue is {max_tissue}, but must be a share, from 0 to 1.")
        self.count, self.slices, self.tries = count, slices, tries
        self.threshold = threshold
        self.max_tissue = max_tissue

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return one sample per cube."""
        size = common_size(data, self.keys)
        volumes = {key: data[key] for key in self.keys}
        if any(length < side for length, side in zip(size, self.region, strict=True)):
            volumes = {key: _pad(volume, self.region) for key, volume in volumes.items()}
        draws = [self.randomize(volumes[self.keys[0]]) for _ in range(self.count)]
        missed = [share for share, _ in draws if share > self.max_tissue]
        if missed:
            source = getattr(data[self.keys[0]], "meta", {}).get("filename_or_obj", self.keys[0])
            logger.debug(
                "%s: %d of %d cubes hold more tissue than %g, up to %.2f.",
                *(source, len(missed), self.count, self.max_tissue, max(missed)),
            )
        rest = {key: value for key, value in data.items() if key not in self.keys}
        return [
            {**deepcopy(rest), **{key: _cut(volume, start, self.region) for key, volume in volumes.items()}}
            for _, start in draws
        ]

    def randomize(self, data: Any) -> tuple[float, tuple[int, ...]]:
        """Draw a cube.

        Args:
            data: the scan, not smaller than the cube.

        Returns:
            Its share of tissue, and its first voxel.
        """
        scan = convert_to_tensor(data, track_meta=False)
        best: tuple[float, tuple[int, ...]] = (float("inf"), ())
        for _ in range(self.tries):
            start = tuple(
                self._start(*lengths) for lengths in zip(scan.shape[1:], self.region, self.margin, strict=True)
            )
            share = tissue_share(scan, start, self.region, self.threshold, self.slices)
            best = min(best, (share, start))
            if share <= self.max_tissue:
                break
        return best

    def _start(self, length: int, side: int, margin: int) -> int:
        """Draw the first voxel of a cube along an axis."""
        free = length - side
        low = margin if 2 * margin <= free else free // 4
        return int(self.R.randint(low, free - low + 1))


def tissue_share(
    scan: torch.Tensor, start: Sequence[int], region: Sequence[int], threshold: float = -150.0, slices: int = 3
) -> float:
    """Return how much of a cube is solid tissue or lies right before it, as Models Genesis measures it.

    A voxel of tissue counts 1. One that is not, but has tissue k slices further on along the last axis, the nearest of
    ``slices`` with its own, counts 1 - k / (slices - 1): at the published 3 slices, half for tissue in the next.

    Args:
        scan: (C, H, W, D), in HU.
        start: first voxel of the cube, inside the scan.
        region: size of the cube, which ends inside the scan. The slices after it may not.
        threshold: from here on, in HU, it is tissue.
        slices: number of slices looked at, with that of the voxel.

    Example:
        >>> scan = torch.tensor([-800.0, -800, -800, 40, -800]).reshape(1, 1, 1, 5)
        >>> tissue_share(scan, (0, 0, 0), (1, 1, 4))
        0.375
    """
    (i, j, k), (height, width, depth) = start, region
    reach = max(1, slices - 1)  # the last slice counts 0
    tissue = scan[:, i : i + height, j : j + width, k : k + depth + reach - 1] >= threshold
    tissue = pad(tissue, (0, depth + reach - 1 - tissue.shape[-1]))
    found, known, total = torch.zeros_like(tissue[..., :depth]), 0, 0.0
    for ahead in range(reach):
        found |= tissue[..., ahead : ahead + depth]
        count = int(found.sum())
        total += (count - known) * (1 - ahead / reach)
        known = count
    return total / found.numel()


def _pad(volume: Any, region: Sequence[int]) -> MetaTensor:
    """Return a volume padded to the size of the cube with its lowest value."""
    transform = SpatialPad(region, value=float(volume.min()))
    transform.tracing = False  # cubes cannot be put back
    return transform(volume)


def _cut(volume: Any, start: Sequence[int], region: Sequence[int]) -> MetaTensor:
    """Return a copy of a cube."""
    transform = SpatialCrop(roi_start=start, roi_end=[low + side for low, side in zip(start, region, strict=True)])
    transform.tracing = False
    return transform(volume).clone()


def _check(name: str, values: Sequence[int], least: int) -> tuple[int, ...]:
    """Return three integers of at least some size."""
    if len(values) != 3 or not all(isinstance(value, int) and value >= least for value in values):
        raise ValueError(f"{name} is {values}, but must be three integers of {least} or more.")
    return tuple(values)
