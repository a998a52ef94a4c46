"""Cross-validate a bundle: train it once per fold, score each case by a network that never saw it.

    python scripts/cross_validate.py --bundle lung_segmentation --dataset_dir DATA --out cv
    python scripts/cross_validate.py --dataset_dir LIDC --out cv --depth 10 --epochs 30

Without --bundle it is the nodule classifier. Every other option goes to the bundle's training. No epoch is chosen by
the fold it is scored on: the network of the last epoch counts. The same command goes on with what was interrupted, and
with --ensemble true it writes one model that averages those of all folds. For nodules there is also the score of their
size alone, where all of them have a mask.
"""

import logging
import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

if __name__ == "__main__":
    logging.getLogger("med3d_components").setLevel(logging.ERROR)  # every fold would repeat the datalist's messages
    run_commands("scripts.commands.cross_validate:cross_validate", __doc__)
