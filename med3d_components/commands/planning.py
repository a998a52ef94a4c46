"""Plan a training from its data and the memory at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from med3d_components.commands.models import find_bundle
from med3d_components.planning.overlay import check_free, write_plan

__all__ = ["plan"]


def plan(
    dataset_dir: str, out: str, bundle: str = "lung_segmentation", memory_gb: float | None = None, **options: Any
) -> Path:
    """Choose spacing, strides, patch size, batch size and channels of a training, and write them with their reasons.

    The file is a config to be read and edited: train --plan FILE takes it, and so does MONAI's command line, as
    --config_file "['.../train.json','FILE']". What is typed beside it comes first.

    Args:
        dataset_dir: folder of the training data, in the layout of the Medical Segmentation Decathlon.
        out: file to write, which ends in .json and must not exist.
        bundle: its name or its folder.
        memory_gb: that a training step may take, in GB; by default half of what is free, of a GPU if there is one.
        options: of the bundle's training, such as --depth 10, which go into the plan; what is planned follows them.

    Returns:
        The file.

    Raises:
        FileNotFoundError: if there is no such bundle or data.
        FileExistsError: if the file is there already.
        ValueError: if the data do not fit, an option is not one of the bundle, or nothing fits into the memory.
    """
    from med3d_components.planning.plan import make_plan  # takes seconds

    check_free(out)  # before minutes are spent
    overlay = make_plan(dataset_dir, find_bundle(bundle), memory_gb, options)
    write_plan(out, overlay)
    for name, value in overlay.items():
        if not name.startswith("_"):
            print(f"{name:<13}{json.dumps(value)}\n{'':13}{overlay[f'_desc_{name}']}")
    return Path(out)
