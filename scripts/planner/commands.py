"""The code of ``scripts/plan_memory.py``: predictions for one setting, and a table of what fits."""

from __future__ import annotations

import bisect
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from med3d_components.planning.memory import MARGIN, MakeTrainer, predict_peak
from med3d_components.planning.rehearsal import bundle_trainer, default_setting
from med3d_components.utils import as_flag
from scripts.planner.measuring import MEASURING_ENVIRONMENT, MeasuredPeak, measure_peak

__all__ = ["largest_edges", "plan_memory"]

BUNDLES = Path(__file__).parents[2] / "bundles"
MEMORIES_GB = (8, 12, 16, 24, 40, 80)
BATCH_SIZES = (1, 2, 4)
EDGES = range(32, 513, 32)


def plan_memory(
    bundle: str,
    patch_size: int | Sequence[int] | None = None,
    batch_size: int | None = None,
    num_classes: int = 2,
    measure: bool | str = False,
    table: bool | str = True,
    **options: Any,
) -> None:
    """Print the parts of the predicted peak, and for each memory the largest cube that fits.

    Args:
        bundle: name of the bundle.
        patch_size: voxels that the network sees, three numbers or one for a cube. Without it and batch_size there is
            the table alone.
        batch_size: of the bundle's training; by default its own.
        num_classes: background included, where data decide it.
        measure: also train two steps of the setting, in a process of its own, and compare.
        table: print the table.
        options: of the bundle's train.json.

    Raises:
        FileNotFoundError: if there is no such bundle.
        ValueError: for what the bundle's training refuses.
    """
    folder = BUNDLES / bundle
    default_patch, default_batch_size = default_setting(folder)
    measure, table = as_flag("measure", measure), as_flag("table", table)

    def make(patch_size: Sequence[int], batch_size: int) -> MakeTrainer:
        return partial(bundle_trainer, folder, patch_size, batch_size, num_classes, **options)

    if patch_size is not None or batch_size is not None or measure:
        patch = [patch_size] * 3 if isinstance(patch_size, int) else list(patch_size or default_patch)
        batch_size = default_batch_size if batch_size is None else batch_size
        print(f"Patch {'x'.join(map(str, patch))}, batch size {batch_size}:")
        _print_setting(make(patch, batch_size), measure)
    if table:
        _print_table(lambda edge, batch_size: predict_peak(make([edge] * 3, batch_size)).total)


def largest_edges(total: Callable[[int], int], memories: Sequence[float], edges: Sequence[int] = EDGES) -> list[int]:
    """Return the greatest edge that fits each memory, 0 where none does.

    Args:
        total: maps an edge to bytes, more for a greater one.
        memories: bytes.
        edges: to choose from, in increasing order.

    Example:
        >>> largest_edges(lambda edge: edge**3, [0, 64**3 * 1.25, 1e9])
        [0, 64, 512]
    """
    known = cache(total)
    counts = [bisect.bisect_right(edges, memory / MARGIN, key=known) for memory in memories]
    return [edges[count - 1] if count else 0 for count in counts]


def _print_setting(make_trainer: MakeTrainer, measure: bool) -> None:
    peak = predict_peak(make_trainer)
    for part, size in {**peak._asdict(), "sum": peak.total}.items():
        print(f"    {part:<12} {size / 1e9:6.2f} GB")
    if measure:
        measured = _measure_apart(make_trainer)
        print(f"    {'measured':<12} {measured.total / 1e9:6.2f} GB in {measured.seconds:.0f} s", end="")
        print(f"; the prediction is {peak.total / measured.total:.2f} of it")


def _print_table(total: Callable[..., int]) -> None:
    print(f"Edge of the largest cube that fits, among multiples of {EDGES.step} up to {EDGES[-1]} voxels:")
    print("memory" + "".join(f"  batch {batch_size}" for batch_size in BATCH_SIZES))
    memories = [memory * 1e9 for memory in MEMORIES_GB]
    columns = [largest_edges(partial(total, batch_size=batch_size), memories) for batch_size in BATCH_SIZES]
    for memory, *edges in zip(MEMORIES_GB, *columns, strict=True):
        print(f"{memory:>3} GB" + "".join(f"  {edge or '-':>7}" for edge in edges))


def _measure_apart(make_trainer: MakeTrainer) -> MeasuredPeak:
    """Measure in a process of its own, which has nothing to free before."""
    os.environ.update(MEASURING_ENVIRONMENT)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(measure_peak, make_trainer).result()
        except BrokenProcessPool as e:
            raise ValueError("The training was ended by the system: it needs more memory than there is.") from e
