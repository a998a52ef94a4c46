"""Where windows lie over a region of a scan, and how many a network takes at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from med3d_components.utils.memory import predict_window

__all__ = ["LAYOUTS", "MOST_WINDOWS", "snap_to_scan", "trim_region", "widen_to_window", "windows_per_pass"]

MOST_WINDOWS = 16
"""Of one pass. Our own bound, not measured: no GPU has tried it."""


def windows_per_pass(network: torch.nn.Module, region: Sequence[int], device: torch.device | str) -> int:
    """Return how many windows to give a network at once: as many as half of the device's free memory holds.

    On a CPU that is one, since there a batch takes as long as its windows one by one. The other half is for the logits
    of the scan. The prediction is one of float32, so bfloat16 leaves more.

    Args:
        network: of the inference.
        region: window in voxels, (H, W, D).
        device: of the inference; MONAI Label gives its name.

    Returns:
        1 to ``MOST_WINDOWS``; 1 also where not even one fits, on a device that does not tell its free memory, and for
        TorchScript, which does not predict.

    Example:
        >>> windows_per_pass(torch.nn.Conv3d(1, 8, 1), (96, 96, 96), torch.device("cpu"))
        1
    """
    device = torch.device(device)
    if device.type == "cpu" or isinstance(network, torch.jit.ScriptModule):
        return 1
    memory_of = getattr(torch.get_device_module(device), "mem_get_info", None)
    if memory_of is None:
        return 1
    peak, (free, _) = predict_window(network, region), memory_of(device)
    return max(1, min(MOST_WINDOWS, free // 2 // (peak.total - peak.parameters)))


def widen_to_window(start: int, stop: int, length: int, window: int, overlap: float) -> tuple[int, int]:
    """Widen a region that is smaller than a window to one, as far as the scan goes, along one axis.

    A window then sees the tissue around the region, where MONAI would pad with zeros.

    Args:
        start: first voxel of the region.
        stop: the voxel behind its last one.
        length: of the scan, in voxels.
        window: its length in voxels.
        overlap: not needed here; all ``LAYOUTS`` are called alike.

    Returns:
        First voxel, and the voxel behind the last one, of the part of the scan to slide over.

    Example:
        >>> widen_to_window(7, 9, length=30, window=8, overlap=0.25)
        (4, 12)
    """
    first = max(min(start - (window - (stop - start)) // 2, start, length - window), 0)
    return first, min(max(stop, first + window), length)


def trim_region(start: int, stop: int, window: int, overlap: float, slack: tuple[int, int]) -> tuple[int, int]:
    """Give up a few voxels at the ends of a region where that saves a window, along one axis.

    Two windows of 128 voxels would look at a region of 134 nearly twice. Windows of another size than in training are
    no way out: networks do worse in them.

    Args:
        start: first voxel of the region.
        stop: the voxel behind its last one.
        window: its length in voxels.
        overlap: of neighbouring windows, as a share of the window.
        slack: most voxels that can be given up at the start and at the stop.

    Returns:
        First voxel of the region, and the voxel behind its last one.

    Example:
        >>> trim_region(40, 174, window=128, overlap=0.25, slack=(4, 4))
        (43, 171)
    """
    (interval,) = _get_scan_interval([stop - start], [window], 1, [overlap])
    surplus = max(stop - start - window, 0) % max(interval, 1)
    if surplus > sum(slack):
        return start, stop
    low = min(max(surplus // 2, surplus - slack[1]), slack[0])
    return start + low, stop - (surplus - low)


def snap_to_scan(start: int, stop: int, length: int, window: int, overlap: float) -> tuple[int, int]:
    """Widen a region to the windows of the scan's grid that touch it, along one axis.

    Cut there, a volume has exactly these windows: the first one starts with it, and the last one either is the scan's
    last or lies as far from the one before as all others. The grid is that of ``sliding_window_inference`` of MONAI.

    Args:
        start: first voxel of the region.
        stop: the voxel behind its last one.
        length: of the scan, in voxels.
        window: its length in voxels.
        overlap: of neighbouring windows, as a share of the window.

    Returns:
        First voxel, and the voxel behind the last one, of the part of the scan to slide over.

    Example:
        >>> snap_to_scan(7, 9, length=30, window=8, overlap=0.25)
        (0, 14)
    """
    padded = max(length, window)
    interval = _get_scan_interval([padded], [window], 1, [overlap])
    starts = [int(place.start) for (place,) in dense_patch_slices([padded], [window], interval)]
    touching = [first for first in starts if first < stop and first + window > start]
    return touching[0], min(touching[-1] + window, length)


# How the windows of a region are laid, by name.
LAYOUTS = {"region": widen_to_window, "scan": snap_to_scan}
