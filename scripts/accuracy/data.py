"""The data sets of the study of accuracy: real ones, that are not part of this project, and their splits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from med3d_components.utils import write_json

__all__ = ["deal", "fixed_folds", "write_data"]

SPLITS = "splits_final.json"
"""As nnU-Net writes it: a list of folds."""

Folds = list[dict[str, list[str]]]


def write_data(source: Path, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Write the splits, and what is derived from the real sets; what is there already stays.

    Args:
        source: holds Task04_Hippocampus and sarcoma/.
        folder: for splits and derived sets.

    Returns:
        Name to folder of the data and file of the splits.
    """
    hippocampi = source / "Task04_Hippocampus"
    places: dict[str, tuple[Path, Callable[[Sequence[str]], Folds]]] = {
        "hippocampus": (hippocampi, fixed_folds),
        "hippocampus in folds": (hippocampi, lambda names: deal(fixed_folds(names)[0]["train"], 5)),
        "thick": (_thicken(hippocampi, folder / "thick"), fixed_folds),
    }
    for name in ("SarcomaCT", "SarcomaMR", "SarcomaPET"):
        places[name] = source / "sarcoma" / name, lambda names: deal(names, 5)
    return {
        name: (data, _write_splits(data, folder / "splits" / name.replace(" ", "_"), folds))
        for name, (data, folds) in places.items()
    }


def fixed_folds(names: Sequence[str]) -> Folds:
    """Return the folds of the hippocampi.

    The test cases are every fifth name from the first. Of the others every fifth is what recipe and defaults are
    chosen on; 8 and 16 of the rest are what small sets are.

    Args:
        names: of all cases, sorted.

    Returns:
        Training and validation of the test, of the choices, and of the test with 8 and with 16 training cases.
    """
    test = list(names[::5])
    others = [name for name in names if name not in test]
    chosen_on = others[::5]
    rest = [name for name in others if name not in chosen_on]
    few = [{"train": rest[:: len(rest) // count][:count], "val": test} for count in (8, 16)]
    return [{"train": others, "val": test}, {"train": rest, "val": chosen_on}, *few]


def deal(names: Sequence[str], folds: int) -> Folds:
    """Deal cases to folds, every so-manieth name to each."""
    dealt = [list(names[fold::folds]) for fold in range(folds)]
    return [{"train": [name for name in names if name not in part], "val": part} for part in dealt]


def _write_splits(data: Path, folder: Path, folds: Callable[[Sequence[str]], Folds]) -> Path:
    names = sorted(path.name.removesuffix(".nii.gz") for path in (data / "imagesTr").glob("[!.]*.nii.gz"))
    path = folder / SPLITS
    if not path.is_file():
        write_json(path, folds(names))
    return path


def _thicken(source: Path, folder: Path) -> Path:
    """Write every fourth slice of all volumes: 1 x 1 x 4 mm."""
    if (folder / "dataset.json").is_file():
        return folder
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for path in sorted((source / kind).glob("[!.]*.nii.gz")):
            volume = nib.Nifti1Image.from_filename(path)
            affine = volume.affine @ np.diag([1, 1, 4, 1])
            nib.save(nib.Nifti1Image(np.asarray(volume.dataobj)[:, :, ::4], affine), folder / kind / path.name)
    content = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    write_json(folder / "dataset.json", {**content, "name": "hippocampi in slices of 4 mm"})
    return folder
