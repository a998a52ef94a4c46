"""Measure this package against what a user would take instead, side by side in one process.

Each comparison prints a table of our figure, the baseline's and their ratio, medians of alternating runs, below the
machine and the versions; with --out it also writes them as CSV and JSON.

Example:
    python scripts/benchmark.py spacing --size 512,512,105 --repeats 3 --out benchmarks
"""

from __future__ import annotations

import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

from scripts.benchmarks.cascade import cascade
from scripts.benchmarks.growth import growth
from scripts.benchmarks.inference import inference, inference_memory
from scripts.benchmarks.preprocessing import caching, preprocessing
from scripts.benchmarks.shuffling import shuffling
from scripts.benchmarks.spacing import spacing
from scripts.benchmarks.startup import startup
from scripts.benchmarks.training import training

COMMANDS = (spacing, preprocessing, caching, cascade, shuffling, training, startup, growth, inference, inference_memory)

if __name__ == "__main__":
    run_commands({command.__name__: command for command in COMMANDS})
