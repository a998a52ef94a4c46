"""How long the package takes to import, beyond MONAI."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import time
from statistics import median

import med3d_components
from scripts.benchmarks.stopwatch import Row, report

__all__ = ["startup"]


def startup(repeats: int = 5, out: str | None = None) -> None:
    """Compare importing MONAI with importing MONAI and every module of the package, each in a process of its own.

    Args:
        repeats: processes of each, in alternation; the median is reported.
        out: folder for startup.csv and startup.json; nothing is written without it.
    """
    modules = [
        f"import {module.name}" for module in pkgutil.walk_packages(med3d_components.__path__, "med3d_components.")
    ]
    # What `python -m monai.bundle` has imported before it reads a config.
    monai = "import monai, monai.bundle, ignite.engine, ignite.handlers"
    codes = {"monai": monai, "both": "; ".join([monai, *modules])}
    times = [{name: _seconds(code) for name, code in codes.items()} for _ in range(repeats + 1)][1:]
    baseline, both = (median(turn[name] for turn in times) for name in codes)
    row: Row = {
        "name": f"{len(modules)} modules",
        "monai_s": baseline,
        "monai and ours_s": both,
        "ours_s": both - baseline,
    }
    report("startup", [row], {"repeats": repeats}, out)


def _seconds(code: str) -> float:
    """Return how long Python runs the code, its own start included."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start
