"""Measure this package against what a user would take instead, side by side in one process.

Each comparison prints a table of our figure, the baseline's and their ratio, medians of alternating runs, below the
machine and the versions; with --out it also writes them as CSV and JSON.

    python scripts/benchmark.py spacing --size 512,512,105 --repeats 3 --out benchmarks
    python scripts/benchmark.py spacing --cpu avx2  # as on a processor without AVX-512 and bf16
"""

import os
import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

COMMANDS = {
    "spacing": "scripts.benchmarks.spacing:spacing",
    "preprocessing": "scripts.benchmarks.preprocessing:preprocessing",
    "caching": "scripts.benchmarks.preprocessing:caching",
    "cascade": "scripts.benchmarks.cascade:cascade",
    "shuffling": "scripts.benchmarks.shuffling:shuffling",
    "training": "scripts.benchmarks.training:training",
    "startup": "scripts.benchmarks.startup:startup",
    "growth": "scripts.benchmarks.growth:growth",
    "inference": "scripts.benchmarks.inference:inference",
    "inference_memory": "scripts.benchmarks.inference:inference_memory",
    "reports": "scripts.benchmarks.reports:reports",
}

OLDER = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
"""Make torch compute as on an older processor; read when a process starts."""


def start_anew(argv: list[str]) -> None:
    """Replace this process by one on the processor that ``--cpu`` names."""
    if "--cpu" not in argv:
        return
    position = argv.index("--cpu")
    name = argv[position + 1] if position + 1 < len(argv) else ""
    if name not in ("native", "avx2"):
        sys.exit(f"error: cpu is {name!r}, but must be native or avx2.")
    rest = argv[:position] + argv[position + 2 :]
    os.execve(sys.executable, [sys.executable, *rest], {**os.environ, **(OLDER if name == "avx2" else {})})


if __name__ == "__main__":
    start_anew(sys.argv)
    run_commands(COMMANDS, __doc__)
