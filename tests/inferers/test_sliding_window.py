from __future__ import annotations

import pytest
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.inferers.utils import _get_scan_interval

from med3d_components.inferers.sliding_window import (
    MOST_WINDOWS,
    snap_to_scan,
    trim_region,
    widen_to_window,
    windows_per_pass,
)
from med3d_components.networks import Med3DSegmentationNet
from med3d_components.utils.memory import predict_window

REGIONS = [(0, 1), (0, 30), (7, 9), (12, 27), (16, 24), (23, 24), (29, 30)]


def places(length: int, window: int, overlap: float) -> list[int]:
    """First voxels of the windows that MONAI slides over an axis, which it pads where it is shorter than they are."""
    seen: list[int] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(int(x.max()) + 1 - window)
        return torch.ones_like(x)

    padding = max(window - length, 0)
    axis = torch.arange(length, dtype=torch.float32)[None, None] + padding
    SlidingWindowInferer([window], 1, overlap)(axis, network)
    return [max(first, 0) for first in seen]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("window", [5, 8, 30, 40])
@pytest.mark.parametrize("region", REGIONS)
def test_a_region_snapped_to_the_scan_has_those_windows_of_the_scan_that_touch_it(
    region: tuple[int, int], window: int, overlap: float
) -> None:
    first, last = snap_to_scan(*region, 30, window, overlap)
    assert first <= region[0] < region[1] <= last <= 30
    touching = [place for place in places(30, window, overlap) if place < region[1] and place + window > region[0]]
    assert [first + place for place in places(last - first, window, overlap)] == touching


@pytest.mark.parametrize("window", [5, 8, 30, 40])
@pytest.mark.parametrize("region", REGIONS)
def test_a_widened_region_holds_a_window_as_far_as_the_scan_goes(region: tuple[int, int], window: int) -> None:
    first, last = widen_to_window(*region, 30, window, 0.25)
    assert 0 <= first <= region[0] < region[1] <= last <= 30
    assert last - first == max(region[1] - region[0], min(window, 30))


def test_a_region_is_widened_to_both_sides_alike() -> None:
    assert widen_to_window(14, 16, 30, 8, 0.25) == (11, 19)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("slack", [(0, 0), (3, 3), (0, 5), (5, 0)])
def test_a_region_is_trimmed_within_the_slack_and_only_where_that_saves_a_window(
    slack: tuple[int, int], overlap: float
) -> None:
    saved = 0
    for length in range(1, 150):
        start, stop = trim_region(100, 100 + length, 32, overlap, slack)
        assert 0 <= start - 100 <= slack[0]
        assert 0 <= 100 + length - stop <= slack[1]
        fewer = count_windows(length, 32, overlap) - count_windows(stop - start, 32, overlap)
        assert fewer == (1 if stop - start < length else 0)
        saved += fewer
    assert (saved > 0) == (sum(slack) > 0)


def count_windows(length: int, window: int, overlap: float) -> int:
    """Count the windows that MONAI slides over a length, along one axis."""
    if length <= window:
        return 1
    interval = _get_scan_interval([length], [window], 1, [overlap])
    return len(list(dense_patch_slices([length], [window], interval)))


GPU = torch.device("cuda")


@pytest.mark.parametrize(("free_windows", "expected"), [(0.5, 1), (2, 1), (4.1, 2), (13, 6), (1000, MOST_WINDOWS)])
def test_a_pass_takes_as_many_windows_as_half_of_the_free_memory_holds(
    free_windows: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Med3DSegmentationNet(2, 10)
    peak = predict_window(network, (32, 32, 32))
    free = int(free_windows * (peak.total - peak.parameters))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    assert windows_per_pass(network, (32, 32, 32), GPU) == expected


def test_on_a_device_that_does_not_tell_its_free_memory_windows_pass_one_by_one() -> None:
    assert windows_per_pass(torch.nn.Conv3d(1, 2, 3), (32, 32, 32), "mps") == 1


def test_on_a_cpu_and_in_torchscript_windows_pass_one_by_one() -> None:
    network = torch.nn.Conv3d(1, 2, 3)
    assert windows_per_pass(network, (32, 32, 32), torch.device("cpu")) == 1
    assert windows_per_pass(network, (32, 32, 32), "cpu") == 1
    assert windows_per_pass(torch.jit.script(network), (32, 32, 32), GPU) == 1
