r"""Measure how accurate the networks and recipes are, on real data and fixed splits: what docs/accuracy.md reports.

    python scripts/accuracy_study.py run --data_dir DATA --out accuracy
    python scripts/accuracy_study.py report --out accuracy

DATA holds Task04_Hippocampus and sarcoma/. Every training is a run of lung_segmentation in a process of its own, on
one thread where OMP_NUM_THREADS is 1. The same command, given again, goes on where it was stopped; two of it side by
side use two cores, and none takes a training that the other is at.
"""

import signal
import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

COMMANDS = {name: f"scripts.accuracy.commands:{name}" for name in ("run", "report")}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the training at hand is stopped as well
    run_commands(COMMANDS, __doc__)
