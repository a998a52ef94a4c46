"""Kill trainings at random moments, resume them until they are done, and compare them with ones that were let alone.

    python scripts/kill_trainings.py --out kills                              # all, 50 kills
    python scripts/kill_trainings.py --out kills --kills 2 --targets lung_segmentation
    python scripts/kill_trainings.py --out kills --checkpoint_minutes 0.05    # few resume files

The trainings are of seconds, on synthetic data. The same command, given again, goes on where it was stopped. What
happened stands in kills.csv, a row for each training; the command fails if one of them is not as it should be.
"""

import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

if __name__ == "__main__":
    run_commands("scripts.experiments.kills:kill_trainings", __doc__)
