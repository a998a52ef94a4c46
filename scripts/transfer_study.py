r"""Compare initialisations on any downstream bundle and any data, as Table 2 of Med3D does.

    python scripts/transfer_study.py run --bundle lung_nodule_ct_classification \
        --dataset_dir LIDC --out study --depths 10,18 --seeds 0,1,2 --shares 0.1,0.25,1 \
        --inits "scratch,med3d=r{depth}/encoder.pt,kinetics:resnet-{depth}.pth,genesis:chest.pt"
    python scripts/transfer_study.py ablation --bundle lung_segmentation --dataset_dir LUNGS \
        --domains_dir 3DSeg-8 --out ablation --counts 1,2,4,8 --depth 10 --seeds 0,1,2
    python scripts/transfer_study.py report --out study

Every training is a run of the bundle in a process of its own. The same command, given again, goes on where it was
stopped, and trains only what is new when seeds, shares, depths or initialisations are added. Several of it may run side
by side: none takes a training that another is at.
"""

import signal
import sys
from pathlib import Path

from med3d_components.utils import run_commands

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, a script finds only its own folder

COMMANDS = {name: f"scripts.study.commands:{name}" for name in ("run", "ablation", "report")}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the training at hand is stopped as well
    run_commands(COMMANDS, __doc__)
