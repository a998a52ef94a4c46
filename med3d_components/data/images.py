"""Unlabelled volumes as lists of training and validation items."""

from __future__ import annotations

import os
from pathlib import Path

from med3d_components.data.listing import case_name, list_images
from med3d_components.data.splits import draw_key, draw_split

__all__ = ["ImageDatalist"]


class ImageDatalist:
    """Training and validation items of a folder of volumes, whose labels, if there are any, are not looked at.

    Args:
        dataset_dir: folder of NIfTI, NRRD or MetaImage files and of folders with a DICOM series; or a folder in the
            layout of the Medical Segmentation Decathlon, of which ``imagesTr`` is taken.
        val_fraction: share of the volumes used for validation, at least one; with 1 all are used for both.
        draws: how often each training volume is listed, to draw so many times from it in an epoch.
        seed: of the split, which depends on it and the volumes' names alone.

    Attributes:
        name: of the folder.
        training: items ``{"image", "case"}``.
        validation: the same for validation.
        split: names of the training and of the validation cases.

    Raises:
        FileNotFoundError: if the folder does not exist or holds no volume.
        ValueError: if it holds one volume alone, a DICOM folder is no single complete series, or two volumes have one
            name.

    Example:
        >>> ImageDatalist("LUNA16").split["validation"]  # doctest: +SKIP
        ['1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860']
    """

    def __init__(
        self, dataset_dir: str | os.PathLike[str], val_fraction: float = 0.1, draws: int = 1, seed: int = 0
    ) -> None:
        folder = Path(dataset_dir).resolve()
        items = list_images(folder / "imagesTr" if (folder / "dataset.json").is_file() else folder)
        if len(items) < 2:
            raise ValueError(f"{folder} holds one volume; at least 2 are needed, one to validate on.")
        self.name = folder.name
        cases = {case_name(item["image"]): item for item in items}
        drawn = sorted(cases, key=lambda case: draw_key(seed, self.name, case))
        training, validation = draw_split(drawn, val_fraction)
        self.split = {"training": sorted(training), "validation": sorted(validation)}
        items_of = {part: [{**cases[case], "case": case} for case in names] for part, names in self.split.items()}
        self.training, self.validation = items_of["training"] * draws, items_of["validation"]
