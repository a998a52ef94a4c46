"""Random cubes out of a CT scan: of its lungs, as Models Genesis learns from them, and never of the air around it.

Models Genesis: Zhou et al., MICCAI 2019; MedIA 2021.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, SpatialCrop, SpatialPad
from monai.transforms.traits import MultiSampleTrait
from monai.utils import convert_to_tensor
from torch.nn.functional import pad

from med3d_components.transforms.body import Blocks, box_of_blocks, find_air, share_of_blocks
from med3d_components.transforms.distortion import common_size

__all__ = ["RandTissueCropd", "tissue_share"]

logger = logging.getLogger(__name__)

MOST_AIR = 0.5
"""Largest share of a cube that may be air around the body."""
FLAGS = 2**20
"""Scans that can be told apart, in bytes that all workers share."""


class Cube(NamedTuple):
    """A cube that was drawn.

    Attributes:
        start: its first voxel.
        air: which share of it is air around the body.
        suits: whether it has little enough tissue and air.
    """

    start: tuple[int, ...]
    air: float
    suits: bool


class RandTissueCropd(Randomizable, MapTransform, MultiSampleTrait):
    """Cut random cubes of little solid tissue out of the body in a CT scan in HU: one sample becomes several.

    Cubes lie in the bounding box of the body. A cube is drawn again, up to ``tries`` times, while its
    :func:`tissue_share` is above ``max_tissue``, which leaves cubes of lung, or more than half of it is air around the
    body, see :func:`~med3d_components.transforms.body.find_air`. If none will do, as in an abdomen without lung, the
    first one that is at most half air is taken, whatever its tissue, or else the one with the least air; a warning,
    once per scan, says so. So every scan gives ``count`` cubes; the published code drops what is missing, and takes air
    for lung.

    Cubes keep ``margin`` voxels off the border of the scan on both sides, where the body does, uniformly placed
    between. On an axis that is too short for that they lie in the middle half of what is possible; the published code
    leaves such a scan out. A scan smaller than the cube is padded with its lowest value. Affines follow. Run it before
    intensities are scaled.

    Args:
        keys: volumes of one grid, (C, H, W, D), in axial slices along the last axis. The first is the scan in HU that
            tells the tissue.
        region: size of the cubes in voxels.
        count: number of cubes.
        threshold: from here on, in HU, it is tissue.
        max_tissue: largest share of tissue that is taken. 1 takes all.
        slices: see :func:`tissue_share`.
        margin: in voxels.
        tries: most draws for a cube.
        air: up to here, in HU, the mean of 4x4x4 voxels is air; None for a scan in other units, where air is what is
            as dark as its darkest part.

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
        air: float | None = -950.0,
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
        self.threshold, self.max_tissue, self.air = threshold, max_tissue, air
        self.told = torch.zeros(FLAGS, dtype=torch.uint8).share_memory_()

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return one sample per cube."""
        size = common_size(data, self.keys)
        volumes = {key: data[key] for key in self.keys}
        if any(length < side for length, side in zip(size, self.region, strict=True)):
            volumes = {key: _pad(volume, self.region) for key, volume in volumes.items()}
        cubes = self.randomize(volumes[self.keys[0]])
        if not all(cube.suits for cube in cubes):
            self._tell(getattr(data[self.keys[0]], "meta", {}).get("filename_or_obj", self.keys[0]), cubes)
        rest = {key: value for key, value in data.items() if key not in self.keys}
        return [
            {**deepcopy(rest), **{key: _cut(volume, cube.start, self.region) for key, volume in volumes.items()}}
            for cube in cubes
        ]

    def randomize(self, data: Any) -> list[Cube]:
        """Draw the cubes.

        Args:
            data: the scan, not smaller than a cube.
        """
        scan = convert_to_tensor(data, track_meta=False)
        air = find_air(scan, self.air)
        axes = zip(scan.shape[1:], self.region, self.margin, box_of_blocks(~air, scan.shape[1:]), strict=True)
        starts = [_starts(*axis) for axis in axes]
        return [self._draw(scan, air, starts) for _ in range(self.count)]

    def _draw(self, scan: torch.Tensor, air: Blocks, starts: Sequence[tuple[int, int]]) -> Cube:
        """Draw a cube until it suits; if none does, return the first of those that are at most half air."""
        cubes = []
        for _ in range(self.tries):
            start = tuple(int(self.R.randint(low, high + 1)) for low, high in starts)
            share = share_of_blocks(air, start, self.region, scan.shape[1:])
            cubes.append(Cube(start, share, suits=share <= MOST_AIR and self._is_lung(scan, start)))
            if cubes[-1].suits:
                return cubes[-1]
        return min(cubes, key=lambda cube: max(cube.air, MOST_AIR))

    def _is_lung(self, scan: torch.Tensor, start: Sequence[int]) -> bool:
        """Tell whether a cube has little enough tissue."""
        return self.max_tissue == 1 or (
            tissue_share(scan, start, self.region, self.threshold, self.slices) <= self.max_tissue
        )

    def _tell(self, source: Any, cubes: Sequence[Cube]) -> None:
        """Warn of a scan, once."""
        flag = zlib.crc32(str(source).encode()) % FLAGS
        if self.told[flag]:
            return
        self.told[flag] = 1
        missed, most = [cube for cube in cubes if not cube.suits], max(cube.air for cube in cubes)
        instead = "cubes with more tissue" if most <= MOST_AIR else f"cubes with up to {most:.0%} of air"
        logger.warning(
            "%s: %d of %d cubes were drawn %d times without finding at most %.0f%% of tissue and %.0f%% of air around "
            "the body; %s are taken instead.",
            *(source, len(missed), len(cubes), self.tries, 100 * self.max_tissue, 100 * MOST_AIR, instead),
        )


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


def _starts(length: int, side: int, margin: int, body: tuple[int, int]) -> tuple[int, int]:
    """Return the first and the last voxel that a cube may start at along an axis."""
    free = length - side
    low = margin if 2 * margin <= free else free // 4
    first, last = body[0], body[1] - side
    if first > last:  # a body smaller than the cube lies in its middle
        first = last = min(max((first + last) // 2, 0), free)
    if first > free - low or last < low:  # the body lies in the margin
        return first, last
    return max(first, low), min(last, free - low)


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
