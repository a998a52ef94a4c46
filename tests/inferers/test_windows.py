from __future__ import annotations

import pytest
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from med3d_components.inferers.windows import trim_region, widen_to_window, windows_per_pass

REGIONS = [(0, 1), (0, 30), (7, 9), (12, 27), (16, 24), (23, 24), (29, 30)]


@pytest.mark.parametrize("window", [5, 8, 30, 40])
@pytest.mark.parametrize("region", REGIONS)
def test_a_widened_region_holds_a_window_as_far_as_the_scan_goes(region: tuple[int, int], window: int) -> None:
    first, last = widen_to_window(*region, 30, window)
    assert 0 <= first <= region[0] < region[1] <= last <= 30
    assert last - first == max(region[1] - region[0], min(window, 30))


def test_a_region_is_widened_to_both_sides_alike() -> None:
    assert widen_to_window(14, 16, 30, 8) == (11, 19)


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


def test_one_window_passes_at_a_time_on_a_cpu_and_four_on_any_other_device() -> None:
    assert [windows_per_pass(device) for device in ("cpu", torch.device("cpu"), "cuda:1", "mps")] == [1, 1, 4, 4]
