"""Local pixel shuffling as Models Genesis distorts its input, without a loop over the windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, product
from math import prod

import numpy as np
import torch
from monai.config import KeysCollection

from med3d_components.transforms.distortion import Distortion, Distortiond

__all__ = ["RandPixelShuffled", "draw_sources"]

Shape = tuple[int, ...]


class RandPixelShuffled(Distortiond):
    """Permute the voxels within thousands of small windows (Models Genesis, "local pixel shuffling").

    The sides of each window are uniform from 1 to a tenth of the volume's, rounded down; its place is uniform. A window
    takes its voxels from the volume as it was and is written over earlier windows. 10,000 of them change most voxels of
    a cube of 64 x 64 x 32. Along an axis of less than 20 voxels all windows are one voxel thick, so that nothing moves
    along it; the published code stops at less than 10.

    The channels and all keys are shuffled alike.

    Args:
        keys: volumes of one size, (C, H, W, D), of any type.
        prob: probability that a sample is shuffled.
        windows: their number.

    Raises:
        ValueError: for a probability outside [0, 1] or a number of windows below 1.

    Example:
        >>> cube = torch.rand(1, 32, 32, 32)
        >>> shuffled = RandPixelShuffled("image", prob=1.0)({"image": cube})["image"]
        >>> bool(torch.isin(shuffled, cube).all()), torch.equal(shuffled, cube)
        (True, False)
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, windows: int = 10_000) -> None:
        super().__init__(keys, prob)
        if windows < 1:
            raise ValueError(f"windows is {windows}, but must be 1 or more.")
        self.windows = windows

    def draw(self, size: tuple[int, ...]) -> Distortion:
        """Draw where each voxel takes its value from."""
        # NumPy's own generator is twice as fast as MONAI's older one.
        rng = np.random.Generator(np.random.SFC64(self.R.randint(2**31)))
        sources = torch.from_numpy(draw_sources(size, self.windows, rng))

        def shuffle(volume: torch.Tensor) -> torch.Tensor:
            return volume.flatten(1).index_select(1, sources.to(volume.device)).reshape(volume.shape)

        return shuffle


def draw_sources(size: tuple[int, ...], windows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw which voxel each voxel of a shuffled volume takes its value from.

    Windows of equal volume are handled together: their voxels make the rows of a matrix. Sorting rows by random bits
    permutes them. The window that comes last at a voxel has the largest number there, so the order in which they are
    handled does not matter.

    Args:
        size: of the volume.
        windows: their number.
        rng: random generator.

    Returns:
        Indices into the flat volume, (H * W * D,), int64.
    """
    longest = tuple(max(1, length // 10) for length in size)
    shapes, places = _shapes(longest)
    corners, place = _draw_windows(size, longest, places, windows, rng)
    order = np.argsort(place, kind="stable")
    corners, place = corners[order, None], place[order]
    bits = (prod(size) - 1).bit_length()
    low, high = (1 << bits) - 1, (1 << 63) - (1 << bits)
    numbers = (order[:, None] + 1) << bits
    sources = np.arange(prod(size), dtype=np.int64)
    for first, last, group in _groups(shapes, place):
        voxels = _boxes(size, shapes[first:last])[place[group] - first] + corners[group]
        keys = rng.bit_generator.random_raw(voxels.size).view(np.int64).reshape(voxels.shape)
        keys &= high
        keys |= voxels  # random bits, then the voxel
        keys.sort(axis=1)
        keys &= low
        keys |= numbers[group]  # the window, then the voxel
        np.maximum.at(sources, voxels.ravel(), keys.ravel())
    return sources & low


@lru_cache(maxsize=4)
def _shapes(longest: Shape) -> tuple[tuple[Shape, ...], np.ndarray]:
    """Return all shapes of windows, ordered by volume, and the place of each of them in that order."""
    shapes = tuple(sorted(product(*(range(1, side + 1) for side in longest)), key=prod))
    places = np.empty(longest, dtype=np.min_scalar_type(len(shapes)))  # NumPy sorts small integers in linear time
    places[tuple(np.transpose(shapes) - 1)] = np.arange(len(shapes))
    return shapes, places


def _draw_windows(
    size: Shape, longest: Shape, places: np.ndarray, windows: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw windows: the first voxel of each, and the place of its shape."""
    sides = (rng.random((3, windows)) * np.reshape(longest, (3, 1))).astype(np.int64)  # less 1
    corners = (rng.random((3, windows)) * (np.reshape(size, (3, 1)) - sides)).astype(np.int64)
    return (corners[0] * size[1] + corners[1]) * size[2] + corners[2], places[tuple(sides)]


def _groups(shapes: Sequence[Shape], place: np.ndarray) -> Iterator[tuple[int, int, slice]]:
    """Yield, of windows ordered by place, those of each volume, with the first and last place that they can have."""
    ends = [0, *np.cumsum(np.bincount(place, minlength=len(shapes))).tolist()]
    first = 0
    for _, equal in groupby(shapes, key=prod):
        last = first + len(list(equal))
        if ends[first] < ends[last]:
            yield first, last, slice(ends[first], ends[last])
        first = last


@lru_cache(maxsize=64)
def _boxes(size: Shape, shapes: Sequence[Shape]) -> np.ndarray:
    """Return the voxels of boxes of equal volume at the first corner of a volume: a row of flat indices each."""
    return np.stack([np.ravel_multi_index(np.indices(shape).reshape(3, -1), size) for shape in shapes])
