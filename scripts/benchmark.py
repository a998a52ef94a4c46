"""Measure this package against what a user would take instead, side by side in one process.

Each comparison prints a table of our figure, the baseline's and their ratio, medians of alternating runs, below the
machine and the versions; with --out it also writes them as CSV and JSON.

    python scripts/benchmark.py spacing --size 512,512,105 --repeats 3 --out benchmarks
"""

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
}

if __name__ == "__main__":
    run_commands(COMMANDS, __doc__)
