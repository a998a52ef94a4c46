"""In-painting and out-painting as Models Genesis distorts its input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.config import KeysCollection

from med3d_components.transforms.distortion import Distortion, Distortiond, check_prob, check_unit

__all__ = ["RandPaintd"]

FILLS = ("noise", "constant")
BORDER = 3
GO_ON = 0.95
MOST_BOXES = 5
SMALLEST = 14  # what out-painting keeps then has a border of 3 voxels on both sides


class RandPaintd(Distortiond):
    """Paint over boxes inside (in-painting) or over all but boxes (out-painting), never both.

    In-painting draws up to 5 boxes, each only with probability 0.95 after the one before, with sides from a sixth to a
    third of the cube's. Out-painting keeps one box and up to 4 more, likewise, with sides of the cube's less three to
    four sevenths. Boxes overlap freely, and stay 3 voxels off the border. All of this is the published rule; at the
    defaults 72 % of the samples are painted outside, 18 % inside (5 % of these without a box).

    Args:
        keys: volumes of one size, (C, H, W, D), floating point, with values in [0, 1]; at least 14 voxels per axis.
        prob: probability that a sample is painted.
        in_prob: probability that it is then painted inside.
        fill: "noise", a uniform value per voxel, as in the published code; or "constant", one uniform value per
            painted box, and one for all outside, as in the papers.

    Raises:
        ValueError: for a probability outside [0, 1] or an unknown fill; when applied, for a cube that is too small,
            integers, or values outside [0, 1].

    Example:
        >>> cube = torch.zeros(1, 21, 21, 21)
        >>> painted = RandPaintd("image", prob=1.0, in_prob=0.0)({"image": cube})["image"]
        >>> bool((painted != cube)[:, :3].all()), bool((painted == cube).any())
        (True, True)
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.9, in_prob: float = 0.2, fill: str = "noise") -> None:
        super().__init__(keys, prob)
        self.in_prob = check_prob("in_prob", in_prob)
        if fill not in FILLS:
            raise ValueError(f"fill is {fill!r}, but must be one of {', '.join(FILLS)}.")
        self.fill = fill

    def check(self, name: str, volume: torch.Tensor) -> None:
        """Raise an error for a volume that is too small or not in [0, 1]."""
        check_unit(name, volume)
        if min(volume.shape[1:]) < SMALLEST:
            raise ValueError(
                f"{name} has the size {tuple(volume.shape[1:])}, but painting takes at least {SMALLEST} "
                "voxels per axis."
            )

    def draw(self, size: tuple[int, ...]) -> Distortion:
        """Draw what is painted over, and with what."""
        paint, painted = self._inside(size) if self.R.uniform() < self.in_prob else self._outside(size)
        if self.fill == "noise":
            paint = self.R.uniform(size=size)

        def cover(volume: torch.Tensor) -> torch.Tensor:
            values = torch.as_tensor(paint).to(volume)
            return torch.where(torch.as_tensor(painted, device=volume.device), values, volume)

        return cover

    def _inside(self, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Draw boxes: the values that they are painted with, and where they are."""
        paint, painted = np.zeros(size), np.zeros(size, dtype=bool)
        for _ in range(MOST_BOXES):
            if self.R.uniform() >= GO_ON:
                break
            box = self._box(size, [self.R.randint(length // 6, length // 3 + 1) for length in size])
            paint[box], painted[box] = self.R.uniform(), True
        return paint, painted

    def _outside(self, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Draw boxes: the value that all else is painted with, and where that is."""
        painted = np.ones(size, dtype=bool)
        for number in range(MOST_BOXES):
            if number > 0 and self.R.uniform() >= GO_ON:
                break
            cut = [self.R.randint(3 * length // 7, 4 * length // 7 + 1) for length in size]
            painted[self._box(size, np.subtract(size, cut).tolist())] = False
        return np.full(size, self.R.uniform()), painted

    def _box(self, size: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
        starts = [self.R.randint(BORDER, length - side - BORDER + 1) for length, side in zip(size, sides, strict=True)]
        return tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
