from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, ks_2samp, kstest

from med3d_components.transforms import RandPaintd

DRAWS = 2000
SIZE = (15, 18, 21)
EMPTY = torch.zeros(1, *SIZE)


def restated(rng: np.random.Generator, inside: bool, size: tuple[int, ...] = SIZE) -> np.ndarray:
    """Restate which voxels the published code paints over."""
    painted = np.full(size, not inside)
    for box in range(5):
        if (inside or box > 0) and rng.random() >= 0.95:
            break
        where = []
        for length in size:
            if inside:
                side = rng.integers(length // 6, length // 3, endpoint=True)
            else:
                side = length - rng.integers(3 * length // 7, 4 * length // 7, endpoint=True)
            start = rng.integers(3, length - side - 3, endpoint=True)
            where.append(slice(start, start + side))
        painted[tuple(where)] = inside
    return painted


def painted_volumes(draws: int, **options: Any) -> np.ndarray:
    """Return where random samples are painted, (draws, H, W, D)."""
    transform = RandPaintd("image", **options).set_random_state(0)
    return np.stack([(transform({"image": EMPTY})["image"] != 0)[0].numpy() for _ in range(draws)])


def test_samples_are_painted_outside_inside_or_not_at_all_as_published() -> None:
    painted = painted_volumes(DRAWS)
    border = np.ones(SIZE, bool)
    border[3:-3, 3:-3, 3:-3] = False
    outside = painted[:, border].all(1)
    inside = painted.any((1, 2, 3)) & ~outside
    assert binomtest(int(outside.sum()), DRAWS, 0.9 * 0.8).pvalue > 0.01
    assert binomtest(int(inside.sum()), DRAWS, 0.9 * 0.2 * 0.95).pvalue > 0.01
    assert not painted[~outside][:, border].any()


@pytest.mark.parametrize("inside", [True, False])
def test_the_painted_volume_is_distributed_as_in_the_published_code(inside: bool) -> None:
    found = painted_volumes(DRAWS, prob=1.0, in_prob=float(inside))
    rng = np.random.default_rng(1)
    expected = np.stack([restated(rng, inside) for _ in range(DRAWS)])
    for axes in ((1, 2, 3), (2, 3), (1, 3), (1, 2)):  # all of it, and its shadow along each axis
        shares = [
            volumes.any(axes) if len(axes) == 2 and inside else volumes.all(axes) for volumes in (found, expected)
        ]
        if len(axes) == 3:
            shares = [volumes.mean(axes) for volumes in (found, expected)]
        else:
            shares = [share.sum(1) for share in shares]
        assert ks_2samp(*shares).pvalue > 0.01
    np.testing.assert_allclose(found.mean(0), expected.mean(0), atol=0.08)


def test_noise_is_uniform_and_of_its_own_for_each_voxel() -> None:
    transform = RandPaintd("image", prob=1.0, in_prob=0.0).set_random_state(0)
    image = torch.full((1, 32, 32, 32), 0.5, dtype=torch.float64)
    result = transform({"image": image})["image"]
    noise = result[result != image].numpy()
    assert len(np.unique(noise)) == len(noise) > 10_000
    assert kstest(noise, "uniform").pvalue > 0.01


def test_a_constant_fill_has_one_uniform_value_per_box_or_outside() -> None:
    outside = RandPaintd("image", prob=1.0, in_prob=0.0, fill="constant").set_random_state(0)
    values = [outside({"image": EMPTY.double()})["image"].unique() for _ in range(300)]
    assert all(len(value) == 2 for value in values)
    assert kstest([float(value[1]) for value in values], "uniform").pvalue > 0.01
    inside = RandPaintd("image", prob=1.0, in_prob=1.0, fill="constant").set_random_state(0)
    results = [inside({"image": EMPTY.double()})["image"][0] for _ in range(300)]
    counts = [len(result.unique()) - 1 for result in results]
    assert max(counts) == 5
    assert np.mean(counts) > 3
    assert kstest([float(value) for result in results for value in result.unique()[1:]], "uniform").pvalue > 0.01
    for value in results[0].unique()[1:]:
        place = (results[0] == value).nonzero()
        extent = place.amax(0) - place.amin(0) + 1
        assert all(extent <= torch.tensor(SIZE) // 3)


def test_the_smallest_cube_has_14_voxels_per_axis() -> None:
    for in_prob in (0.0, 1.0):
        paint = RandPaintd("image", prob=1.0, in_prob=in_prob)
        for seed in range(20):
            assert paint.set_random_state(seed)({"image": torch.zeros(1, 14, 14, 14)})["image"].shape == (1, 14, 14, 14)
    with pytest.raises(ValueError, match=r"image has the size \(14, 14, 13\), but painting takes at least 14 voxels"):
        paint({"image": torch.zeros(1, 14, 14, 13)})


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"in_prob is 2, but must be a probability"):
        RandPaintd("image", in_prob=2)
    with pytest.raises(ValueError, match=r"fill is 'zeros', but must be one of noise, constant"):
        RandPaintd("image", fill="zeros")
