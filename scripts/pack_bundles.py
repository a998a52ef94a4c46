"""Pack each bundle as a zip that needs neither this repository nor its package.

    python scripts/pack_bundles.py                                    # all, without weights
    python scripts/pack_bundles.py lung_segmentation                  # one
    python scripts/pack_bundles.py lung_segmentation --weights MODEL  # one as a training left it

The same sources and weights give the same bytes. A zip with weights says in its own configs what they are: the settings
of the training stand in inference.json, so that an export of it needs no other file, and its classes and data in
metadata.json.
"""

import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

if __name__ == "__main__":
    run_commands("scripts.commands.pack_bundles:pack_bundles", __doc__)
