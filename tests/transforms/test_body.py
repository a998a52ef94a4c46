from __future__ import annotations

import numpy as np
import pytest
import torch

from med3d_components.transforms.body import box_of_blocks, find_air, find_body, share_of_blocks

SIZE = (96, 80, 40)
AIR, LUNG, TISSUE = -1000.0, -850.0, 40.0


def ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    x, y = np.indices(SIZE[:2])
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1


def chest(noise: float = 20, padding: float | None = None) -> torch.Tensor:
    """Make a chest in HU, (1, 96, 80, 40): lungs, a windpipe that leaves it at the top, gas in the stomach."""
    volume = np.full(SIZE, AIR)
    volume[ellipse((48, 40), (36, 28))] = TISSUE
    for centre in ((32, 40), (64, 40)):
        volume[ellipse(centre, (12, 18)), 8:34] = LUNG
    volume[44:52, 36:44, 24:] = AIR
    volume[44:52, 16:24, :6] = AIR
    volume += np.random.default_rng(0).normal(0, noise, SIZE)
    if padding is not None:
        volume[~ellipse((47.5, 39.5), (50, 42))] = padding
    return torch.as_tensor(volume, dtype=torch.float32)[None]


def voxels(blocks: np.ndarray) -> np.ndarray:
    return blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2)


@pytest.mark.parametrize("padding", [None, -3024, -2000])
def test_air_around_the_body_is_no_lung_windpipe_or_gas(padding: float | None) -> None:
    found = voxels(find_air(chest(padding=padding), -950))
    body = ellipse((48, 40), (36, 28))
    assert not found[ellipse((48, 40), (34, 26))].any()
    assert found[~body].mean() > 0.9  # the rest is in blocks that the skin is in


def test_lungs_at_the_side_of_a_cropped_scan_are_no_air() -> None:
    assert not find_air(chest()[:, 28:68, 30:50, 8:32], -950).any()


def test_a_scan_in_other_units_is_measured_by_itself() -> None:
    found = find_air(chest())
    assert (found == find_air(chest(), -950)).mean() > 0.98
    assert np.array_equal(find_air(chest() / 1024 + 1), found)


def test_blocks_in_the_air_of_all_channels_are_air() -> None:
    other = torch.full_like(chest(), AIR)
    other[:, :8] = TISSUE
    both = find_air(torch.cat([chest(), other]), -950)
    assert np.array_equal(both, find_air(chest(), -950) & find_air(other, -950))


@pytest.mark.parametrize("size", [(9, 8, 3), (41, 22, 13)])
def test_what_is_left_over_behind_the_last_block_belongs_to_it(size: tuple[int, int, int]) -> None:
    scan = torch.full((1, *size), AIR)
    scan[:, size[0] // 2 :] = TISSUE
    air = find_air(scan, -950)
    box = box_of_blocks(~air, size)
    assert box[0][1] == size[0]
    assert box[1:] == tuple((0, n) for n in size[1:])
    assert share_of_blocks(air, (0, 0, 0), size, size) == pytest.approx(
        np.floor(size[0] / 8) * 4 / size[0], abs=4 / size[0]
    )
    assert share_of_blocks(air, (size[0] - 2, 0, 0), (2, *size[1:]), size) == 0


def test_the_share_of_blocks_is_that_of_their_voxels() -> None:
    air = find_air(chest(), -950)
    for start in ((0, 0, 0), (3, 5, 7), (61, 41, 9)):
        i, j, k = start
        part = voxels(air)[i : i + 33, j : j + 30, k : k + 17]
        assert share_of_blocks(air, start, (33, 30, 17), SIZE) == pytest.approx(part.mean())


def test_the_body_is_what_is_no_air() -> None:
    scan = chest()
    for (start, stop), (first, last), length in zip(
        find_body(scan[None]), box_of_blocks(~find_air(scan, -950), SIZE), SIZE, strict=True
    ):
        assert (start, stop) == (first, last)
        assert 0 <= start < stop <= length
