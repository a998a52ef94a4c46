"""Predict the memory that training a bundle needs, and the largest setting that fits into a given memory.

    python scripts/plan_memory.py --bundle lung_segmentation                            # the table
    python scripts/plan_memory.py --bundle lung_segmentation --patch_size 128           # and this
    python scripts/plan_memory.py --bundle lung_segmentation --patch_size 64 --measure  # and a run

Every other option is one of the bundle's training, such as --depth 10, --precision bf16 or --checkpointing true.
Nothing is computed and no data are needed: the training runs on tensors without content. A prediction is of the
training step alone, on the device that the bundle would use here. GB are 10^9 bytes.
"""

import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

if __name__ == "__main__":
    run_commands("scripts.planner.commands:plan_memory", __doc__)
