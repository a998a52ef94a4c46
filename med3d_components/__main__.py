"""Prepare data, and train, evaluate and apply the bundles.

    python -m med3d_components segment --model lung_segmentation/models --input ct.nii.gz --output masks
    python -m med3d_components train lung_segmentation --dataset_dir lungs --pretrained_weights medicalnet

The same functions are in ``med3d_components.commands``.
"""

from med3d_components.utils import run_commands

COMMANDS = {
    "segment": "med3d_components.commands.inference:segment",
    "classify": "med3d_components.commands.inference:classify",
    "plan": "med3d_components.commands.planning:plan",
    "train": "med3d_components.commands.training:train",
    "evaluate": "med3d_components.commands.training:evaluate",
    "replay": "med3d_components.commands.training:replay",
    "check": "med3d_components.commands.data:check",
    **{
        f"prepare {name}": f"med3d_components.commands.prepare:{name.replace('-', '_')}"
        for name in ("segmentation", "msd", "lits", "lits-submission", "lasc", "visceral", "lidc")
    },
}

if __name__ == "__main__":
    run_commands(COMMANDS, __doc__)
