"""Write the deliberate copies in the bundles from their one source.

A bundle must run alone, so each carries its own LICENSE, NOTICE, large_files.yml, logging.conf and
multi_gpu_train.json, and its train.json and inference.json the same wiring of the engines. They are edited at the top
of the repository or in ``scripts/canonical``, and copied by this script, which also writes the tables of options in the
bundles' READMEs.

    python scripts/sync_bundles.py           # write the copies
    python scripts/sync_bundles.py --check   # fail if one differs (part of `make lint`)
"""

import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

if __name__ == "__main__":
    run_commands("scripts.commands.sync_bundles:sync", __doc__)
