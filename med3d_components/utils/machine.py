"""What a measurement was taken with."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import monai
import numpy as np
import torch

from med3d_components import __version__

__all__ = ["describe_machine"]


def describe_machine() -> dict[str, str]:
    """Return processor, device, and versions of what decides the numbers."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "numpy": np.__version__,
        "med3d_components": __version__,
    }
