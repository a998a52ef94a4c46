"""Make the plan of a training: each decision with its reason, as entries of a config overlay."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from med3d_components.planning.fingerprint import Fingerprint, read_fingerprint
from med3d_components.planning.memory import MARGIN, predict_peak
from med3d_components.planning.rehearsal import bundle_trainer
from med3d_components.planning.rules import Patch, choose_spacing, choose_strides, is_anisotropic, patches
from med3d_components.utils.command_line import check_known
from med3d_components.utils.machine import free_memory
from med3d_components.utils.option_help import option_names
from med3d_components.utils.options import OPTIONS, check_value, has_expression, is_expression

__all__ = ["make_plan"]

PLANNED = ("spacing", "strides", "patch_size", "batch_size")
BATCH_SIZE, LARGER = 2, (8, 4)
"""What there is at least, as in nnU-Net, and what is tried where whole volumes fit."""
STEPS = 4
"""At least so many steps make an epoch."""


def make_plan(
    dataset_dir: str | Path, bundle: Path, memory_gb: float | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a config overlay for training a bundle on a set: options, each after a ``_desc_`` line with its reason.

    Memory is predicted by running the bundle's training on tensors without content, see :func:`predict_peak`, with a
    quarter more than that and a copy of the weights for their average.

    Args:
        dataset_dir: folder of the training set, with a ``dataset.json``.
        bundle: folder of the bundle.
        memory_gb: that the training step may take, in GB of 10^9 bytes; by default half of what is free.
        options: of the bundle's training, which go into the plan as they are; what is planned follows them.

    Raises:
        FileNotFoundError: if there is no such set.
        ValueError: for a set that a training refuses, an option that the bundle has not or a value that is not
            allowed, a bundle with nothing to plan, and if no patch fits into the memory.
    """
    config = dict(ConfigParser.load_config_file(bundle / "configs" / "train.json"))
    given = _check(config, bundle.name, options or {})
    if memory_gb is not None and not (isinstance(memory_gb, int | float) and memory_gb > 0):
        raise ValueError(f"memory_gb is {memory_gb!r}, but must be a number above 0.")
    need_spacing = config["datalist"].get("need_spacing", True)
    fingerprint = read_fingerprint(dataset_dir, given.get("in_channels"), need_spacing)
    device = torch.device(given.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
    memory = free_memory(device) / 2 if memory_gb is None else memory_gb * 1e9
    plan = _fit(fingerprint, bundle, memory, given)
    if is_expression(config["in_channels"]):
        del plan["in_channels"]  # those of the network before it
    if given.get("architecture") == "genesis":
        del plan["strides"]  # of its U-Net nobody chooses
    return _describe(fingerprint, plan, given, memory)


def _check(config: Mapping[str, Any], bundle: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, as values; refuse those that the bundle has not."""
    known = option_names(config)
    if missing := [name for name in PLANNED if name not in known]:
        raise ValueError(
            f"{bundle} has no option {missing[0]}, so there is nothing to plan; "
            "plan lung_segmentation or liver_ct_fine_segmentation."
        )
    given = {}
    for name, value in options.items():
        check_known(name, known, f"the training of {bundle}")
        if has_expression(value):
            raise ValueError(f"{name} is {value!r}, which MONAI would evaluate; name a value.")
        given[name] = check_value(name, value, OPTIONS[name])
    return given


def _fit(fingerprint: Fingerprint, bundle: Path, memory: float, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is planned: the largest patch that fits, then the largest batch of whole volumes."""
    spacing = given.get("spacing") or choose_spacing(fingerprint)
    fixed = {name: value for name, value in given.items() if name not in PLANNED}
    fixed["in_channels"] = fingerprint.channels
    size = fingerprint.median_size(spacing)
    candidates = list(patches(size, spacing, given.get("strides"), given.get("architecture", "resnet")))
    if "patch_size" in given:
        patch = given["patch_size"]
        candidates = [Patch(patch, given.get("strides") or choose_strides(np.minimum(size, patch), spacing))]

    @cache
    def needed(index: int, batch_size: int) -> float:
        voxels, strides = candidates[index]
        make = partial(bundle_trainer, bundle, voxels, batch_size, len(fingerprint.classes), strides=strides, **fixed)
        peak = predict_peak(make)
        return MARGIN * (peak.total + peak.parameters)

    def first(batch_size: int) -> int:
        return bisect.bisect_left(range(len(candidates)), True, key=lambda i: needed(i, batch_size) <= memory)

    batch_size = given.get("batch_size", BATCH_SIZE)
    index = first(batch_size)
    if index == len(candidates) and "batch_size" not in given:
        batch_size = 1
        index = first(batch_size)
    if index == len(candidates):
        raise ValueError(
            f"{memory / 1e9:.2g} GB hold no training: a batch of {batch_size} of {_times(candidates[-1].size)} voxels "
            f"takes {needed(index - 1, batch_size) / 1e9:.2g} GB; free some, give more by --memory_gb, or plan a "
            "smaller --depth."
        )
    if index == 0 and "batch_size" not in given:
        enough = (n for n in LARGER if n * STEPS <= fingerprint.cases and needed(0, n) <= memory)
        batch_size = next(enough, batch_size)
    chosen = candidates[index]
    return {
        "in_channels": fingerprint.channels,
        "spacing": spacing,
        "strides": chosen.strides,
        "patch_size": chosen.size,
        "batch_size": batch_size,
        "whole": index == 0 and "patch_size" not in given,
        "needed": needed(index, batch_size),
    }


def _describe(
    fingerprint: Fingerprint, plan: Mapping[str, Any], given: Mapping[str, Any], memory: float
) -> dict[str, Any]:
    """Return the overlay; what was given needs no other reason."""
    size = _times(np.round(fingerprint.median_size(plan["spacing"])).astype(int).tolist())
    room = f"A step takes up to {plan['needed'] / 1e9:.2g} GB, of {memory / 1e9:.2g} GB."
    spacing = "In mm: the median of all cases"
    if is_anisotropic(fingerprint):
        spacing += "; along thick slices the 10th percentile, since the median would throw slices of thinner ones away"
    if plan["whole"]:
        patch = f"The median volume, {size} voxels at this spacing, rounded up to a multiple of the strides."
        batch = f"Up to 8 whole volumes, where an epoch has {STEPS} steps and the memory holds them. {room}"
    else:
        patch = f"The largest cube in mm, cut to the median volume of {size} voxels, that the memory holds."
        batch = f"A larger patch is worth more than a larger batch. {room}"
    reasons = {
        "in_channels": "As many as scans have; 1 where dataset.json names the one to use.",
        "spacing": f"{spacing}.",
        "strides": "Thick slices are not halved until voxels are about cubes, and no axis to less than 4 voxels.",
        "patch_size": patch,
        "batch_size": batch,
    }
    overlay: dict[str, Any] = {
        "_desc_plan": f"{fingerprint.name}: {fingerprint}. What is typed comes before this file."
    }
    for name, reason in reasons.items():
        if name not in given and name in plan:
            overlay |= {f"_desc_{name}": reason, name: plan[name]}
    for name, value in given.items():
        overlay |= {f"_desc_{name}": "As it was asked for.", name: value}
    return overlay


def _times(values: Sequence[Any]) -> str:
    return " x ".join(map(str, values))
