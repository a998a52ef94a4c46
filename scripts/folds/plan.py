"""The trainings of a cross-validation, one for each fold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from med3d_components.data.listed_folds import count_folds
from med3d_components.utils.causes import root_cause
from scripts.study.bundles import open_bundle
from scripts.study.cells import Cell

__all__ = ["CLASSIFIER", "plan_folds"]

CLASSIFIER = "lung_nodule_ct_classification"
SEGMENTATIONS = ("lung_segmentation", "liver_ct_coarse_segmentation", "liver_ct_fine_segmentation")
BUNDLES = Path(__file__).parents[2] / "bundles"
RESERVED = ("ckpt_dir", "fold", "keep", "output_dir", "resume", "run_dir", "val_fraction")
"""Options that a cross-validation sets itself."""
NEVER = 10**6
"""Epochs from one validation to the next, so that there is one, after the last epoch."""


def plan_folds(dataset_dir: str, bundle: str, folds: int | None, seed: int, options: Mapping[str, Any]) -> list[Cell]:
    """Return the training of each fold; all have the spacing of all cases, so that their networks can be one.

    Args:
        dataset_dir: data of the bundle.
        bundle: its name.
        folds: number of folds, by default 5 or as many as the option split_file names.
        seed: of folds and trainings.
        options: more options of the bundle.

    Raises:
        FileNotFoundError: if the data, or what options name, do not exist.
        ValueError: for a bundle or an option that there is not, or that is set here, and for data or folds that the
            bundle's datalist refuses.
    """
    known = (*SEGMENTATIONS, CLASSIFIER)
    if bundle not in known:
        raise ValueError(f"bundle is {bundle!r}, but must be one of {', '.join(known)}.")
    if own := sorted({*RESERVED} & {*options}):
        raise ValueError(f"--{own[0]} is set by the cross-validation itself; leave it out.")
    places = {
        name: str(Path(str(options[name])).expanduser().absolute()) for name in ("split_file",) if name in options
    }
    common = {"dataset_dir": str(Path(dataset_dir).expanduser().absolute()), "seed": seed, **options, **places}
    if "split_file" in common:
        if folds is not None:
            raise ValueError("--folds and --split_file: only one of them can say which cases validate; leave one out.")
        count, dealt = count_folds(common["split_file"]), {}
    else:
        count = 5 if folds is None else folds
        dealt = {"folds": count}
    common = {**common, **_spacing(BUNDLES / bundle, {**common, **dealt, "fold": 0})}
    return [
        Cell(f"fold_{fold}", BUNDLES / bundle, {"val_interval": NEVER, **common, **dealt, "fold": fold})
        for fold in range(count)
    ]


def _spacing(bundle: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the option spacing, of all cases, if it would be that of a fold's training cases.

    Raises:
        ValueError: for options or data that the bundle refuses, and a fold that there is not.
    """
    try:
        parser = open_bundle(bundle, options)
        _ = parser.get_parsed_content("datalist").training
        if "datalist" not in str(parser.get("spacing", "")):
            return {}
        drawn = {"folds", "fold", "split_file"}
        whole = {name: value for name, value in options.items() if name not in drawn}
        return {"spacing": list(open_bundle(bundle, {**whole, "val_fraction": 1}).get_parsed_content("spacing"))}
    except RuntimeError as error:
        raise root_cause(error) from None
