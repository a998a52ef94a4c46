from __future__ import annotations

import numpy as np
import pytest

from med3d_components.networks import DilatedResNet, output_stride
from med3d_components.planning.fingerprint import Fingerprint
from med3d_components.planning.rules import LEAST_MAP, choose_spacing, choose_strides, is_anisotropic, patches

ORGANS = [
    ((35, 50, 35), (1, 1, 1)),
    ((35, 50, 9), (1, 1, 4)),
    ((9, 35, 50), (4, 1, 1)),
    ((512, 512, 90), (0.75, 0.75, 5)),
    ((320, 320, 20), (0.6, 0.6, 3.6)),
    ((240, 240, 155), (1, 1, 1)),
    ((12, 9, 5), (1, 1, 1)),
]


def fingerprint(sizes: object, spacings: object) -> Fingerprint:
    return Fingerprint("Organ", ("background", "organ"), 1, *np.broadcast_arrays(np.array(sizes, float), spacings))


@pytest.mark.parametrize(
    ("size", "spacing", "strides"),
    [
        ((35, 50, 35), (1, 1, 1), [[2, 2, 2], [2, 2, 2], [2, 2, 2]]),
        ((35, 50, 9), (1, 1, 4), [[2, 2, 1], [2, 2, 1], [2, 2, 2]]),
        ((128, 128, 128), (1, 1, 1.9), [[2, 2, 2], [2, 2, 2], [2, 2, 2]]),
        ((128, 128, 64), (1, 1, 2), [[2, 2, 1], [2, 2, 2], [2, 2, 2]]),
        ((128, 128, 20), (0.7, 0.7, 8), [[2, 2, 1], [2, 2, 1], [2, 2, 1]]),
        ((16, 16, 16), (1, 1, 1), [[2, 2, 2], [2, 2, 2], [1, 1, 1]]),
        ((7, 7, 7), (1, 1, 1), [[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
    ],
)
def test_an_axis_of_thick_slices_is_not_halved_until_the_others_have_caught_up(
    size: tuple[int, ...], spacing: tuple[float, ...], strides: list[list[int]]
) -> None:
    assert choose_strides(size, spacing) == strides


@pytest.mark.parametrize(("size", "spacing"), ORGANS)
def test_the_deepest_map_keeps_four_voxels_of_whatever_is_halved(
    size: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    stride = output_stride(choose_strides(size, spacing))
    assert all(-(-n // s) >= LEAST_MAP for n, s in zip(size, stride, strict=True) if s > 1)


@pytest.mark.parametrize(("size", "spacing"), ORGANS)
def test_patches_hold_the_volume_at_first_and_shrink_in_multiples_of_the_encoders_stride(
    size: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    found = list(patches(size, spacing))
    for patch in found:
        assert not any(n % s for n, s in zip(patch.size, output_stride(patch.strides), strict=True))
    assert all(n <= edge < n + 8 for n, edge in zip(size, found[0].size, strict=True))
    voxels = [int(np.prod(patch.size)) for patch in found]
    assert voxels == sorted(voxels, reverse=True)
    assert min(found[-1].size) >= 1


def test_the_stride_of_strides_is_that_of_the_encoder_they_make_and_the_unet_of_genesis_has_its_own() -> None:
    strides = [[2, 2, 1], [1, 2, 1], [2, 2, 2]]
    assert output_stride(strides) == DilatedResNet(10, strides=strides).output_stride
    assert output_stride(strides, "genesis") == (8, 8, 8)


def test_slices_are_thick_where_they_are_three_times_as_thick_as_voxels_are_wide_and_few() -> None:
    assert is_anisotropic(fingerprint([[100, 100, 20]], [1, 1, 4]))
    assert not is_anisotropic(fingerprint([[100, 100, 20]], [1, 1, 3]))
    assert not is_anisotropic(fingerprint([[100, 100, 90]], [1, 1, 4]))  # as of a leg


def test_the_spacing_of_thick_slices_is_that_of_the_thinner_ones_and_else_the_median() -> None:
    thick = fingerprint([[100, 100, 20]] * 11, [[1, 1, 4 + case] for case in range(11)])
    assert choose_spacing(thick) == [1, 1, 5]
    thin = fingerprint([[100, 100, 90]] * 3, [[1, 1, z] for z in (1, 2, 2.5)])
    assert choose_spacing(thin) == [1, 1, 2]
    # Never below that of the others.
    mixed = fingerprint([[100, 100, 10]] * 11, [[1, 1, 0.5], *[[1, 1, 6]] * 9, [1, 1, 0.5]])
    assert choose_spacing(mixed) == [1, 1, 1]
