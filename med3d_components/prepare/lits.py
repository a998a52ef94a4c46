"""The Liver Tumour Segmentation challenge (LiTS) 2017: its training set, from its own or the MSD's files, with places.

In one release volumes 28 to 47 have the identity as affine, which would make them scans of 1 mm
(PatrickChrist/LITS-CHALLENGE#14). They are those of 3D-IRCADb-01, whose DICOM series tell their spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.data.geometry import read_nifti_header
from med3d_components.data.place import find_place
from med3d_components.data.scan import Scan, case_name
from med3d_components.data.volumes import open_scan, read_header, read_volume
from med3d_components.prepare.decathlon import save_nifti
from med3d_components.prepare.pairing import Pairs, pair_files, pair_folders

__all__ = ["pair_lits", "place_pairs"]

SAME = 1e-2
"""In mm: how far two affines may differ and be one."""


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


def place_pairs(pairs: Pairs, spare: Path, spacing: Sequence[float] | None = None) -> Pairs:
    """Return the pairs with volume and segmentation in one place; what was done for it is printed.

    A segmentation that lies on its volume's grid is left to the import, which turns its axes to those of the volume;
    another one is put where its volume is, voxel by voxel. A volume with the identity as affine is put where its
    segmentation is; if that has it too, the pair gets a spacing or is left out.

    Args:
        pairs: case name to volume and segmentation.
        spare: folder for copies of the files that get another place.
        spacing: of pairs that nothing places, in mm along the axes of the volume.

    Raises:
        ValueError: if a volume has no spacing, or no pair is left.
    """
    volumes = [volume for volume, _ in pairs.values()]
    without = [str(path) for path in volumes if np.isnan(read_header(path, need_spacing=False).spacing).any()]
    if without:
        raise ValueError(f"No spacing is in {', '.join(without)}; write it into the header, or move the case away.")
    placed, lost = {}, []
    for name, pair in pairs.items():
        image, label = (open_scan(path, need_spacing=False) for path in pair)
        if image.shape != label.shape or _fits(image, label):
            placed[name] = pair  # for the import to refuse, or to turn
        elif (affine := _place(image, label, spacing)) is None:
            lost.append(image.path)
        else:
            placed[name] = _move(image, affine, spare), _move(label, affine, spare)
    if lost:
        told = f"Neither the affine of these volumes nor that of their segmentations says their size: {', '.join(lost)}"
        if not placed:
            raise ValueError(f"{told}; give --spacing x,y,z in mm.")
        print(f"{told}; they are left out. Give --spacing x,y,z in mm to take them.")
    return placed


def _fits(image: Scan, label: Scan) -> bool:
    """Tell whether volume and segmentation say both where they are, and that is one place."""
    if not (_is_placed(image) and _is_placed(label) and label.has_spacing):
        return False
    return find_place(label.shape, label.affine, image.shape, image.affine).fits


def _place(image: Scan, label: Scan, spacing: Sequence[float] | None) -> NDArray[np.float64] | None:
    """Return the affine for a pair, None if there is none; say so where it is not the one of both."""
    if _is_placed(image):
        if not np.allclose(image.affine, label.affine, atol=SAME):
            far = find_place(label.shape, label.affine, image.shape, image.affine).off_mm
            told = f"differ in spacing, direction or origin, by up to {far:.3g} mm; those of the volume are taken."
            print(f"{label.path} and {Path(image.path).name} {told}")
        return image.affine
    if label.has_spacing and _is_placed(label):
        print(f"{image.path} has the identity as affine; that of {Path(label.path).name} is taken.")
        return label.affine
    if spacing is None:
        return None
    size = " x ".join(f"{length:g}" for length in spacing)
    print(f"{image.path} and its segmentation have the identity as affine; their voxels are taken to be {size} mm.")
    return open_scan(image.path, spacing=spacing).affine


def _is_placed(scan: Scan) -> bool:
    """Tell whether a file says where its voxels are: not by the identity, nor by 1 mm without directions."""
    header = read_nifti_header(scan.path)
    has_directions = header["sform_code"] > 0 or header["qform_code"] > 0
    return not np.allclose(scan.affine, np.eye(4)) and (has_directions or not np.allclose(voxel_sizes(scan.affine), 1))


def _move(scan: Scan, affine: NDArray[np.float64], spare: Path) -> Path:
    """Return the file, or that of a copy with another affine where that differs."""
    if np.allclose(scan.affine, affine, atol=SAME):
        return Path(scan.path)
    copy = spare / f"{scan.name}.nii.gz"
    save_nifti(read_volume(scan.path, need_spacing=False)[0], affine, copy)
    return copy
