"""The masks of a test set by the names, and in the type, that the LiTS challenge takes.

Its program (PatrickChrist/lits-challenge-scoring) pairs ``*.nii`` files by their names, wants the shape of the
reference, and compares voxel by voxel, whatever the headers say; so orientation and order must be those of the volume.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from med3d_components.data.scan import case_name
from med3d_components.data.volumes import open_scan
from med3d_components.masks.nifti import write_nifti
from med3d_components.prepare.pairing import find_files, name_files

__all__ = ["write_submission"]

LISTED = 5
"""How many files a line names."""
TEST_CASES = 70
"""Volumes of the challenge's test set."""


def write_submission(
    masks: str | os.PathLike[str], volumes: str | os.PathLike[str], out: str | os.PathLike[str], postfix: str = "seg"
) -> list[Path]:
    """Write ``test-segmentation-N.nii`` for each ``test-volume-N.nii``, after a check of all masks.

    Args:
        masks: folder with ``test-volume-N_<postfix>.nii.gz`` at any depth.
        volumes: folder with the volumes at any depth.
        out: folder to write.
        postfix: end of the masks' names.

    Returns:
        The files.

    Raises:
        FileNotFoundError: if there is no volume, or one has no mask.
        FileExistsError: if a file is there already.
        ValueError: if a mask has not the shape and place of its volume, or holds anything but 0, 1 and 2.
    """
    scans = name_files(find_files(volumes, "test-volume-*.nii*"), case_name)
    found = name_files(
        Path(masks).rglob(f"test-volume-*_{postfix}.nii*"), lambda path: case_name(path).removesuffix(f"_{postfix}")
    )
    if missing := [f"{name}_{postfix}.nii.gz" for name in scans if name not in found]:
        raise FileNotFoundError(f"{masks} has no {_some(missing)}; segment these volumes first, or move them away.")
    files = {name: Path(out, f"{name.replace('volume', 'segmentation')}.nii") for name in scans}
    if existing := [str(path) for path in files.values() if path.exists()]:
        raise FileExistsError(f"{_some(existing)} exists already and is not overwritten; name another out.")
    values = {name: _check(found[name], scan) for name, scan in scans.items()}
    for name, path in files.items():
        mask = open_scan(found[name], need_spacing=False).voxels().astype(np.uint8)
        write_nifti(path, [mask], mask.shape, np.uint8, scans[name])
    _tell(values)
    return list(files.values())


def _some(names: list[str]) -> str:
    """Name a few of many."""
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _check(mask: Path, scan: Path) -> NDArray[Any]:
    """Return the values of a mask that fits its scan."""
    ours, theirs = (open_scan(path, need_spacing=False) for path in (mask, scan))
    shape = (*ours.shape, ours.channels) if ours.channels > 1 else ours.shape
    if shape != theirs.shape:
        raise ValueError(f"{mask} has the shape {shape}, but {scan} {theirs.shape}; segment that volume anew.")
    if not np.allclose(ours.affine, theirs.affine, atol=1e-2):
        raise ValueError(f"{mask} and {scan} differ in spacing, direction or origin; segment that volume anew.")
    values = np.unique(ours.voxels())
    if not set(values.tolist()) <= {0, 1, 2}:
        some = ", ".join(f"{value:g}" for value in values[:5])
        raise ValueError(f"{mask} holds {some}, but the challenge takes 0, 1 for liver and 2 for lesion.")
    return values


def _tell(values: dict[str, NDArray[Any]]) -> None:
    """Print what the challenge's scores will suffer from."""
    if len(values) != TEST_CASES:
        print(f"These are {len(values)} volumes; the challenge's test set has {TEST_CASES}, and it scores all or none.")
    if without := [name for name, held in values.items() if 1 not in held]:
        print(f"No liver, the value 1, is in the masks of {_some(without)}; the challenge gives their liver 0.")
    if not any(2 in held for held in values.values()):
        print("No mask has a lesion, the value 2: was the model trained with --merge_tumours false?")
