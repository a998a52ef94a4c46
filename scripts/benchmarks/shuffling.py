"""The pixel shuffling of Models Genesis, against a loop over its windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from monai.utils import set_determinism

from med3d_components.transforms import RandPixelShuffled
from scripts.benchmarks.stopwatch import compare, report

__all__ = ["shuffling"]


def shuffling(size: Sequence[int] = (64, 64, 32), repeats: int = 20, out: str | None = None) -> None:
    """Compare the local pixel shuffling of Models Genesis with a loop over its 10,000 windows.

    Args:
        size: of the cube, in voxels.
        repeats: timed runs of each; the median is reported.
        out: folder for shuffling.csv and shuffling.json; nothing is written without it.
    """
    set_determinism(0)
    cube = torch.rand(1, *size)
    ours = partial(RandPixelShuffled("cube", prob=1.0), {"cube": cube})
    row = compare("10,000 windows", ours, partial(_shuffle_by_loop, cube[0].numpy()), repeats)
    report("shuffling", [row], {"size": list(size), "repeats": repeats}, out)


def _shuffle_by_loop(cube: np.ndarray) -> np.ndarray:
    """Shuffle the voxels within one window after the other, each of them taken from the cube as it was."""
    rng, shuffled = np.random.default_rng(), cube.copy()
    for _ in range(10_000):
        sides = [rng.integers(1, length // 10 + 1) for length in cube.shape]
        starts = [rng.integers(0, length - side + 1) for length, side in zip(cube.shape, sides, strict=True)]
        window = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        shuffled[window] = rng.permutation(cube[window].ravel()).reshape(sides)
    return shuffled
