"""Domains of two channels, made of those of one."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.conftest import write_domain


def two_channels(folder: Path, *layouts: str) -> None:
    """Give the images of a domain a second channel, their negative, in layouts that people have, case by case."""
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for entry, layout in zip(content["training"], cycle(layouts), strict=False):
        path = folder / entry["image"]
        image = nib.load(path)
        first = image.get_fdata().astype(np.float32)
        volumes = [first, 500 - first]
        path.unlink()
        if layout == "4-D":
            nib.save(nib.Nifti1Image(np.stack(volumes, -1), image.affine), path)
            continue
        stem = entry["image"].removesuffix(".nii.gz")
        names = [f"{stem}{end}.nii.gz" for end in (("_t1", "_t2") if layout == "list" else ("_0000", "_0001"))]
        for name, volume in zip(names, volumes, strict=True):
            nib.save(nib.Nifti1Image(volume, image.affine), folder / name)
        entry["image"] = {"list": names, "first": names[0]}.get(layout, entry["image"])
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def write_channels(folder: Path) -> Path:
    """Write a domain of two channels, T1 and T2, in the files of nnU-Net."""
    two_channels(write_domain(folder, size=(32, 28, 24)), "nnU-Net 1")
    path = folder / "dataset.json"
    content = {**json.loads(path.read_text(encoding="utf-8")), "channel_names": {"0": "T1", "1": "T2"}}
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder
