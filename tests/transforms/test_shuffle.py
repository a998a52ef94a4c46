from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare

from med3d_components.transforms import RandPixelShuffled
from med3d_components.transforms.shuffle import draw_sources

SIZE = (64, 64, 32)


def restated(size: tuple[int, ...], windows: int, rng: np.random.RandomState) -> np.ndarray:
    """Restate local pixel shuffling as a loop: which voxel each voxel takes its value from."""
    original = np.arange(np.prod(size)).reshape(size)
    shuffled = original.copy()
    for _ in range(windows):
        sides = [rng.randint(1, max(1, length // 10) + 1) for length in size]
        starts = [rng.randint(0, length - side + 1) for length, side in zip(size, sides, strict=True)]
        window = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        shuffled[window] = rng.permutation(original[window].ravel()).reshape(sides)
    return shuffled.ravel()


def measure(sources: np.ndarray) -> list[float]:
    """Return the share of voxels that moved, of values that are left, and the mean move and square move per axis."""
    places = np.stack(np.unravel_index(sources, SIZE)) - np.indices(SIZE).reshape(3, -1)
    moves = np.abs(places).mean(1)
    return [
        float((sources != np.arange(len(sources))).mean()),
        len(np.unique(sources)) / len(sources),
        *moves.tolist(),
        *(places**2).mean(1).tolist(),
        float((places[:, :6] ** 2).mean()),
    ]


def test_a_cube_is_shuffled_as_by_the_published_loop() -> None:
    old, new = np.random.RandomState(0), np.random.default_rng(0)
    expected = np.array([measure(restated(SIZE, 10_000, old)) for _ in range(8)])
    found = np.array([measure(draw_sources(SIZE, 10_000, new)) for _ in range(60)])
    error = np.sqrt(expected.var(0, ddof=1) / len(expected) + found.var(0, ddof=1) / len(found))
    assert (np.abs(found.mean(0) - expected.mean(0)) < 4.5 * error).all()
    assert found[:, 0].mean() == pytest.approx(0.75, abs=0.1)


def outcomes(windows: int) -> dict[tuple[int, ...], float]:
    """Return the exact probability of each result on a line of 20 voxels, where sides are 1 or 2."""
    single: dict[tuple[int, ...], float] = {}  # where a window lies, and what is in it then
    for start in range(19):
        for order in permutations((start, start + 1)):
            placed = (start, *order)
            single[placed] = 1 / 2 / 19 / 2
    for start in range(20):
        single[(start, start)] = 1 / 2 / 20
    result: Counter[tuple[int, ...]] = Counter()
    for draws in product(single.items(), repeat=windows):
        line = list(range(20))
        for window, _ in draws:
            line[window[0] : window[0] + len(window) - 1] = window[1:]
        result[tuple(line)] += float(np.prod([prob for _, prob in draws]))
    return dict(result)


def kind(line: tuple[int, ...]) -> tuple[int, ...]:
    """Group results: how many voxels moved up, moved down, and how many values are lost, without their place."""
    moves = np.subtract(line, range(20))
    return int((moves > 0).sum()), int((moves < 0).sum()), 20 - len(set(line))


def test_later_windows_lie_over_earlier_ones_and_read_the_original() -> None:
    draws = 8000
    expected: Counter[tuple[int, ...]] = Counter()
    for line, prob in outcomes(2).items():
        expected[kind(line)] += prob
    assert sum(expected.values()) == pytest.approx(1)
    rng = np.random.default_rng(0)
    found = Counter(kind(tuple(draw_sources((20, 1, 1), 2, rng).tolist())) for _ in range(draws))
    assert found.keys() <= expected.keys()
    frequent = [key for key, prob in expected.items() if prob * draws > 20]
    assert len(frequent) > 4
    counts = [*(found[key] for key in frequent), sum(found.values()) - sum(found[key] for key in frequent)]
    probs = [*(expected[key] for key in frequent), 1 - sum(expected[key] for key in frequent)]
    assert chisquare(counts, draws * np.array(probs)).pvalue > 0.01


def test_all_permutations_of_a_window_are_equally_likely() -> None:
    rng = np.random.default_rng(0)
    found: Counter[tuple[int, ...]] = Counter()
    unmoved, draws = 0, 12_000
    for _ in range(draws):
        sources = draw_sources((20, 1, 20), 1, rng).reshape(20, 20)
        moved = np.argwhere(sources != np.arange(400).reshape(20, 20))
        if len(moved) == 0:
            unmoved += 1
        elif np.ptp(moved, axis=0).all():  # of the windows of 2 x 2, those permutations that move both rows and columns
            low = moved.min(0)
            values = sources[low[0] : low[0] + 2, low[1] : low[1] + 2].ravel() - (low[0] * 20 + low[1])
            found[tuple({0: 0, 1: 1, 20: 2, 21: 3}[value] for value in values.tolist())] += 1
    # The identity, of a window of 2 x 2 or one of 2 voxels, or a single voxel.
    assert binomtest(unmoved, draws, 1 / 4 / 24 + 1 / 2 / 2 + 1 / 4).pvalue > 0.01
    assert len(found) == 24 - 1 - 4  # without the identity and the four swaps along an edge
    assert chisquare(list(found.values())).pvalue > 0.01
    assert binomtest(sum(found.values()), draws, 19 / 24 / 4).pvalue > 0.01


def test_values_stay_within_reach_of_a_window() -> None:
    sources = draw_sources(SIZE, 10_000, np.random.default_rng(1))
    places = np.stack(np.unravel_index(sources, SIZE)) - np.indices(SIZE).reshape(3, -1)
    assert places.max(1).tolist() == [5, 5, 2]
    assert places.min(1).tolist() == [-5, -5, -2]


@pytest.mark.parametrize("size", [(9, 5, 40), (1, 1, 64), (19, 19, 30)])
def test_nothing_moves_along_axes_shorter_than_20(size: tuple[int, ...]) -> None:
    sources = draw_sources(size, 3000, np.random.default_rng(0))
    places = np.stack(np.unravel_index(sources, size)) - np.indices(size).reshape(3, -1)
    assert not places[:2].any()
    assert places[2].any()


def test_without_a_long_axis_the_volume_stays_as_it_is() -> None:
    image = torch.rand(1, 19, 9, 1)
    assert torch.equal(RandPixelShuffled("image", prob=1.0)({"image": image})["image"], image)


def test_the_last_of_many_windows_is_found_in_larger_volumes() -> None:
    size, rng = (70, 40, 51), np.random.default_rng(0)
    sources = draw_sources(size, 300, rng)
    assert sources.shape == (np.prod(size),)
    assert 0 <= sources.min() <= sources.max() < np.prod(size)
    assert 0.05 < (sources != np.arange(len(sources))).mean() < 0.4


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64])
def test_integers_are_shuffled_too(dtype: torch.dtype) -> None:
    image = torch.randint(0, 2, (2, 30, 30, 30)).to(dtype)
    shuffled = RandPixelShuffled("image", prob=1.0).set_random_state(0)({"image": image})["image"]
    assert shuffled.dtype == dtype
    assert not torch.equal(shuffled, image)


def test_half_of_the_samples_are_shuffled() -> None:
    image = torch.rand(1, 20, 20, 20)
    transform = RandPixelShuffled("image", windows=200).set_random_state(0)
    shuffled = sum(not torch.equal(transform({"image": image})["image"], image) for _ in range(2000))
    assert binomtest(shuffled, 2000, 0.5).pvalue > 0.01


def test_it_is_much_faster_than_the_loop() -> None:
    image = torch.rand(1, *SIZE)
    transform = RandPixelShuffled("image", prob=1.0)
    loop = shortest(lambda: restated(SIZE, 10_000, np.random.RandomState(0)), 2)
    assert shortest(lambda: transform({"image": image}), 10) < loop / 10


def shortest(function: Callable[[], object], repeats: int) -> float:
    """Return the least processor time of some runs, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        function()
        times.append(time.thread_time() - start)
    return min(times)


def test_a_number_of_windows_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="windows is 0, but must be 1 or more"):
        RandPixelShuffled("image", windows=0)
