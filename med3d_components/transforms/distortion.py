"""The distortions that Models Genesis restores images from (Zhou et al., MICCAI 2019; MedIA 2021).

MONAI's ``RandCoarseShuffle``, ``RandCoarseDropout`` and ``RandHistogramShift`` draw from other distributions (windows
shuffled one on top of the other, boxes of any number and place that are filled the same way, intensity maps that only
increase), and the first two overwrite their input; hence these. Where the published code is more precise than the
papers they follow it. It applies them in this order: :class:`RandFlipsd` to input and target, then
:class:`~med3d_components.transforms.shuffle.RandPixelShuffled`, :class:`RandBezierIntensityd` and
:class:`~med3d_components.transforms.paint.RandPaintd` to the input alone.

All of them draw once per sample, the same for all keys, from MONAI's random state: results do not depend on the device
that holds the cubes. They return new tensors and leave those given to them as they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor

__all__ = [
    "Distortion",
    "Distortiond",
    "RandBezierIntensityd",
    "RandFlipsd",
    "check_prob",
    "check_unit",
    "common_size",
]

Distortion = Callable[[torch.Tensor], torch.Tensor]

POINTS = 100_000


class Distortiond(RandomizableTransform, MapTransform):
    """Base of the distortions: with some probability, do to all keys what :meth:`draw` returns.

    Args:
        keys: volumes of one size, (C, H, W, D).
        prob: probability that a sample is distorted.

    Raises:
        ValueError: for a probability outside [0, 1]; when applied, for volumes that cannot be distorted.
    """

    def __init__(self, keys: KeysCollection, prob: float) -> None:
        RandomizableTransform.__init__(self, check_prob("prob", prob))
        MapTransform.__init__(self, keys)

    @abstractmethod
    def draw(self, size: tuple[int, ...]) -> Distortion:
        """Draw a distortion of volumes of a size."""

    def check(self, name: str, volume: torch.Tensor) -> None:
        """Raise an error for a volume that cannot be distorted."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample, distorted or not."""
        result = dict(data)
        size = common_size(result, self.keys)
        volumes = {key: convert_to_tensor(result[key], track_meta=False) for key in self.keys}
        for key, volume in volumes.items():
            self.check(key, volume)
        self.randomize(None)
        if self._do_transform:
            distort = self.draw(size)
            for key, volume in volumes.items():
                result[key] = convert_to_dst_type(distort(volume), result[key])[0]
        return result


class RandFlipsd(Randomizable, MapTransform):
    """Flip along a random axis, again and again while a draw falls below ``prob``, ``max_flips`` times at most.

    The published rule, which may flip along one axis twice. Input and target are flipped together: name both. Affines
    follow.

    Args:
        keys: volumes of one size, (C, H, W, D).
        prob: probability of each further flip.
        max_flips: most flips of a sample.

    Raises:
        ValueError: for a probability outside [0, 1] or a number of flips below 1.

    Example:
        >>> flip = RandFlipsd(["image", "target"], prob=1.0, max_flips=1)
        >>> cube = torch.arange(8.0).reshape(1, 2, 2, 2)
        >>> torch.equal(flip({"image": cube, "target": cube})["image"], cube)
        False
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.4, max_flips: int = 3) -> None:
        MapTransform.__init__(self, keys)
        self.prob = check_prob("prob", prob)
        if max_flips < 1:
            raise ValueError(f"max_flips is {max_flips}, but must be 1 or more.")
        self.max_flips = max_flips

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample, flipped or not."""
        result = dict(data)
        size = common_size(result, self.keys)
        axes = self.randomize()
        if axes:
            for key in self.keys:
                flipped = convert_to_tensor(result[key], track_meta=False).flip([axis + 1 for axis in axes])
                flipped = convert_to_dst_type(flipped, result[key])[0]
                if isinstance(flipped, MetaTensor):
                    flipped.affine = flipped.affine @ _mirror(size, axes)
                result[key] = flipped
        return result

    def randomize(self, data: Any = None) -> list[int]:
        """Draw the spatial axes that are flipped an odd number of times."""
        odd: set[int] = set()
        for _ in range(self.max_flips):
            if self.R.uniform() >= self.prob:
                break
            odd ^= {int(self.R.randint(3))}
        return sorted(odd)


class RandBezierIntensityd(Distortiond):
    """Map intensities by a random cubic Bezier curve from (0, 0) to (1, 1), in half of the cases upside down.

    The two control points between are uniform in the unit square, so that x and y both grow along the curve. It is
    sampled at 100,000 points and read by linear interpolation, as published. The published code sorts the samples, by
    x and y, or with probability 0.5 by x alone, which sets x against y: then the map falls from 1 to 0. At the default
    of ``prob`` 45 % of all samples are inverted.

    Args:
        keys: volumes (C, H, W, D), floating point, with values in [0, 1].
        prob: probability that a sample is mapped.

    Raises:
        ValueError: for a probability outside [0, 1]; when applied, for integers or values outside [0, 1].

    Example:
        >>> RandBezierIntensityd("image", prob=1.0)({"image": torch.rand(1, 8, 8, 8)})["image"].shape
        torch.Size([1, 8, 8, 8])
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.9) -> None:
        super().__init__(keys, prob)

    def check(self, name: str, volume: torch.Tensor) -> None:
        """Raise an error for a volume that is not in [0, 1]."""
        check_unit(name, volume)

    def draw(self, size: tuple[int, ...]) -> Distortion:
        """Draw an intensity map."""
        inner = torch.as_tensor(self.R.uniform(size=(2, 2)))  # a row per coordinate
        inverted = bool(self.R.uniform() < 0.5)

        def map_intensity(volume: torch.Tensor) -> torch.Tensor:
            x, y = _bezier(inner.to(volume.device))
            values = _interpolate(volume.double(), x, y.flip(0) if inverted else y)
            return values.to(volume.dtype)

        return map_intensity


def check_prob(name: str, value: float) -> float:
    """Return a probability, or raise a ValueError."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}, but must be a probability, from 0 to 1.")
    return value


def check_unit(name: str, volume: torch.Tensor) -> None:
    """Raise a ValueError for a volume that is no floating point or has values outside [0, 1]."""
    if not volume.is_floating_point():
        raise ValueError(f"{name} is {volume.dtype}, but must be floating point; scale it to [0, 1] before.")
    low, high = (float(value) for value in volume.aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # a resampled volume may be off by rounding; NaN is neither
        raise ValueError(f"{name} has values from {low:g} to {high:g}, but must lie in [0, 1]; scale it before.")


def common_size(data: Mapping[Hashable, Any], keys: Sequence[Hashable]) -> tuple[int, ...]:
    """Return the spatial size of the volumes (C, H, W, D) of a sample.

    Raises:
        ValueError: for a volume that is not 4-D, or of another size than the first.
    """
    for key in keys:
        if len(data[key].shape) != 4:
            raise ValueError(f"{key} has the shape {tuple(data[key].shape)}, but must be 4-D: (C, H, W, D).")
        if data[key].shape[1:] != data[keys[0]].shape[1:]:
            sizes = [tuple(data[name].shape[1:]) for name in (key, keys[0])]
            raise ValueError(f"{key} has the size {sizes[0]}, but {keys[0]} {sizes[1]}; bring both to one grid before.")
    return tuple(data[keys[0]].shape[1:])


def _mirror(size: Sequence[int], axes: Sequence[int]) -> torch.Tensor:
    """Return the matrix that takes a voxel of a flipped volume to its place before."""
    matrix = torch.eye(4, dtype=torch.float64)
    for axis in axes:
        matrix[axis, axis], matrix[axis, 3] = -1, size[axis] - 1
    return matrix


def _bezier(inner: torch.Tensor) -> torch.Tensor:
    """Return points (2, N) of the cubic Bezier curve from (0, 0) to (1, 1), given the two control points between."""
    t = torch.linspace(0, 1, POINTS, dtype=inner.dtype, device=inner.device)
    return t * (3 * (1 - t) * ((1 - t) * inner[:, :1] + t * inner[:, 1:]) + t * t)


def _interpolate(values: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Do what ``np.interp`` does, on any device."""
    x = x.cummax(0).values  # points that coincide but for rounding would make steep slopes
    slope = y.diff() / x.diff().clamp_min(torch.finfo(x.dtype).tiny)
    left = torch.searchsorted(x, values, right=True).sub_(1).clamp_(0, len(slope) - 1)
    return y[left] + (values.clamp(x[0], x[-1]) - x[left]) * slope[left]
