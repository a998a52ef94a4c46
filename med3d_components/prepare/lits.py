"""The training set of the Liver Tumour Segmentation challenge (LiTS) 2017, from the challenge's or the MSD's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.data.volumes import case_name, open_scan, read_header, read_volume
from med3d_components.prepare.decathlon import save_nifti
from med3d_components.prepare.pairing import Pairs, pair_files, pair_folders

__all__ = ["pair_lits", "share_grids"]


def pair_lits(source: Path) -> Pairs:
    """Return the pairs of LiTS from either layout, under the same names and in the order of their numbers."""
    if not (source / "dataset.json").is_file():
        return pair_files(
            source, "volume-*.nii*", "segmentation-*.nii*", lambda path: f"liver_{case_name(path).split('-')[1]}"
        )
    dataset = read_dataset_json(source / "dataset.json")
    classes = DOMAINS_3DSEG8["Task03_Liver"].classes
    if "synthetic" in dataset or tuple(dataset.get("labels", {}).values()) != classes:
        raise ValueError(f"{source} is not the Task03_Liver of the MSD, with the classes {', '.join(classes)}.")
    pairs = pair_folders(source / "imagesTr", source / "labelsTr")
    print(f"{source} has the layout of the MSD; its {len(pairs)} training pairs are taken over, and nothing else.")
    return dict(sorted(pairs.items(), key=lambda pair: (len(pair[0]), pair[0])))


def share_grids(pairs: Pairs, spare: Path) -> Pairs:
    """Return the pairs with a copy, in ``spare``, of each segmentation that does not lie on its volume's grid."""
    volumes = [volume for volume, _ in pairs.values()]
    without = [str(path) for path in volumes if np.isnan(read_header(path, need_spacing=False).spacing).any()]
    if without:
        raise ValueError(f"No spacing is in {', '.join(without)}; write it into the header, or move the case away.")
    return {name: (volume, _put_on_grid(label, volume, spare)) for name, (volume, label) in pairs.items()}


def _put_on_grid(segmentation: Path, volume: Path, spare: Path) -> Path:
    """Return the segmentation's file, or that of a copy with the volume's header where the two differ."""
    image, label = open_scan(volume), open_scan(segmentation, need_spacing=False)
    if image.shape != label.shape or np.allclose(image.affine, label.affine, atol=1e-2):
        return segmentation  # one of another shape is for the import to refuse
    copy = spare / f"{case_name(segmentation)}.nii.gz"
    save_nifti(read_volume(segmentation, need_spacing=False)[0], image.affine, copy)
    print(f"{segmentation} and {volume.name} differ in spacing, direction or origin; those of the volume are taken.")
    return copy
