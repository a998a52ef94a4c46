"""What a measurement was taken with."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

import monai
import numpy as np
import psutil
import torch

from med3d_components import __version__
from med3d_components.utils.precision import choose_precision

__all__ = ["default_workers", "describe_machine", "free_memory", "limit_threads", "usable_cores"]

MOST_WORKERS = 8
"""More than a GPU can be fed from; each holds whole volumes in memory."""


def describe_machine() -> dict[str, str]:
    """Return processor, device, and versions of what decides the numbers."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": choose_precision().name,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "numpy": np.__version__,
        "med3d_components": __version__,
    }


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may use: those of its affinity, or fewer where its container's quota says so.

    Args:
        cgroup: where the system tells of the quota, of either version of cgroups.

    Example:
        >>> 1 <= usable_cores() <= os.cpu_count()
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def _quota(cgroup: Path) -> float | None:
    """Return the cores' worth of time that a cgroup gets, None without a limit."""
    try:
        if (limits := cgroup / "cpu.max").is_file():
            quota, period = limits.read_text(encoding="ascii").split()
        else:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError):  # no cgroups, or "max" for no limit
        return None


def free_memory(device: torch.device, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many bytes a device has free: a GPU, or the machine, within its container's limit.

    Args:
        device: a GPU or the CPU.
        cgroup: where the system tells of the container's limit, of either version of cgroups.

    Example:
        >>> free_memory(torch.device("cpu")) > 0
        True
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    for limit in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        try:
            free = min(free, int(limit.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no cgroups, or "max" for no limit
            continue
    return free


def limit_threads() -> None:
    """Let torch use no more threads than there are cores to use; it does not know of a container's quota."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def default_workers() -> int:
    """Return how many worker processes a data loader gets where nothing is said: a process's share of the cores."""
    share = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(MOST_WORKERS, share))
