"""Write a MONAI Label app that serves packed bundles.

    python scripts/pack_bundles.py lung_segmentation --weights models/model.pt
    python scripts/monailabel_app.py --out APP

The app is a folder that needs neither this repository nor a network: the source of the app and one folder per bundle.
Of a bundle that was packed with and without weights, the zip with weights is taken. apps/monailabel/README.md says how
to start its server.
"""

import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

if __name__ == "__main__":
    run_commands("scripts.commands.monailabel_app:write_app", __doc__)
