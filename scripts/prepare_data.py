"""Prepare data: make synthetic samples, download, or import what was downloaded by hand or is your own.

Segmentation data comes in folders in the layout of the Medical Segmentation Decathlon (MSD), one per domain; nodules
to classify in a folder with a dataset.json that lists them.
"""

import sys
from pathlib import Path

from med3d_components.__main__ import COMMANDS as PACKAGE_COMMANDS
from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

COMMANDS = {
    "sample": "scripts.commands.prepare_data:sample",
    **{
        name.removeprefix("prepare "): command
        for name, command in PACKAGE_COMMANDS.items()
        if name.startswith("prepare ")
    },
}

if __name__ == "__main__":
    run_commands(COMMANDS, __doc__)
