"""How much memory a training takes, measured, to compare it with the prediction."""

from __future__ import annotations

from typing import NamedTuple

import torch

from med3d_components.planning.memory import MakeTrainer, predict_peak
from scripts.benchmarks.stopwatch import measure_once

__all__ = ["MEASURING_ENVIRONMENT", "MeasuredPeak", "measure_peak"]

MEASURING_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes glibc give every larger block back when it is freed, so that resident memory is that of the live tensors.

By default it learns, up to 32 MiB, to keep freed blocks for later, which leaves holes. Read when a process starts.
"""


class MeasuredPeak(NamedTuple):
    """Bytes that a training held most above what its process held before, and its seconds."""

    total: float
    seconds: float


def measure_peak(make_trainer: MakeTrainer) -> MeasuredPeak:
    """Run a training and measure the peak of its memory; call it once in a process of its own.

    On a GPU that is what torch has allocated there, elsewhere the resident memory of the process. For the latter, start
    the process with ``MEASURING_ENVIRONMENT``.

    Args:
        make_trainer: makes a trainer and all that it holds.

    Returns:
        Bytes, NaN where the system does not tell, and seconds.
    """
    predict_peak(make_trainer)  # imports whatever the training will
    measured = measure_once(lambda: make_trainer().run())
    on_gpu = torch.cuda.is_available()
    return MeasuredPeak(torch.cuda.max_memory_allocated() if on_gpu else measured.peak_mib * 2**20, measured.seconds)
