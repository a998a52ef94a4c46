"""Time and memory of what is compared, and the table of a comparison."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd
import torch

from med3d_components.utils.files import move_aside, write_json, write_table
from med3d_components.utils.machine import describe_machine

__all__ = ["Measured", "Row", "as_row", "compare", "measure", "measure_once", "peak_memory", "report"]

Row = dict[str, str | float]

LONG_S = 30.0
"""A run that takes longer is measured once, without a run before it."""


class Measured(NamedTuple):
    """Seconds of the runs, the greatest memory above that before one, and what the last one returned."""

    times: tuple[float, ...]
    peak_mib: float
    result: Any

    @property
    def seconds(self) -> float:
        """Return the median."""
        return median(self.times)


def measure(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Measured]:
    """Run each in alternation, after one run of each that does not count unless it takes over ``LONG_S``."""
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, but must be 1 or more.")
    first = {name: measure_once(run) for name, run in runs.items()}
    if max(one.seconds for one in first.values()) > LONG_S:
        return first
    again = [{name: measure_once(run) for name, run in runs.items()} for _ in range(repeats)]
    return {
        name: Measured(
            tuple(turn[name].seconds for turn in again),
            max(turn[name].peak_mib for turn in again),
            again[-1][name].result,
        )
        for name in runs
    }


def measure_once(run: Callable[[], Any]) -> Measured:
    """Run once, as it is."""
    before = _reset_peak()
    start = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Measured((time.perf_counter() - start,), peak_memory() - before, result)


def _reset_peak() -> float:
    """Forget the peak of resident memory, where the system can; return what is held now in MiB."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return float("nan")
    return peak_memory()


def peak_memory() -> float:
    """Return this process's greatest resident memory in MiB since it was reset, NaN where the system does not tell."""
    if not Path("/proc/self/status").is_file():
        return float("nan")
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else float("nan")


def as_row(name: str, ours: Measured, baseline: Measured) -> Row:
    """Return medians in seconds, how many times as fast ours is, and the peak memory of both in MiB.

    The ratio is the median of those of neighbouring runs: a machine that slows down for a while slows both.
    """
    return {
        "name": name,
        "ours_s": ours.seconds,
        "baseline_s": baseline.seconds,
        "ratio": median(theirs / own for own, theirs in zip(ours.times, baseline.times, strict=True)),
        "ours_peak_mib": ours.peak_mib,
        "baseline_peak_mib": baseline.peak_mib,
    }


def compare(name: str, ours: Callable[[], Any], baseline: Callable[[], Any], repeats: int) -> Row:
    """Time both in alternation and return a row of their medians, without memory."""
    row = as_row(name, **measure({"ours": ours, "baseline": baseline}, repeats))
    return {key: row[key] for key in ("name", "ours_s", "baseline_s", "ratio")}


def report(title: str, rows: Sequence[Row], settings: Mapping[str, Any], out: str | None) -> None:
    """Print the rows as a table below the machine and versions; write both to ``out`` if given.

    Files of an earlier run are moved to the folder ``earlier`` in ``out``.
    """
    about = {**settings, "threads": torch.get_num_threads(), **describe_machine()}
    for key, value in about.items():
        print(f"{key}: {value}")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format))
    if out is None:
        return
    table, record = Path(out, f"{title}.csv"), Path(out, f"{title}.json")
    move_aside([table, record], Path(out, "earlier"))
    write_table(table, rows)
    write_json(record, {"about": about, "rows": list(rows)})
    print(f"Wrote {table} and {record}.")
