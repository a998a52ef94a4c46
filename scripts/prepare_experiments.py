"""Write the domains of the experiments that the bundles' READMEs report, from real volumes.

They check the pipeline on real images; they are too small and too similar to say anything about medicine.
"""

import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

COMMANDS = {name: f"scripts.experiments.commands:{name}" for name in ("offset", "nodules", "regions", "copies")}

if __name__ == "__main__":
    run_commands(COMMANDS, __doc__)
