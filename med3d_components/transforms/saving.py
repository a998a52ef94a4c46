"""Saving of results on the grid of the scan that they belong to."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged

from med3d_components.data.scan import case_name
from med3d_components.masks import all_or_none, check_formats, file_part, write_mask, write_nifti

__all__ = ["SaveImageMasksd", "SaveImageVolumesd"]


# MONAI Label and MONAI Deploy write files of their own. Of a bundle's postprocessing, the one leaves out what is a
# SaveImaged, the other what has "SaveImage" in its name.
class SaveImageMasksd(SaveImaged):
    """Write masks in the geometry of their scans, as ``OUTPUT_DIR/CASE_POSTFIX`` and the ending of each format.

    CASE is the item's "case", or the name of the scan.

    Args:
        keys: of label maps (1, x, y, z) in the order of the scan's voxels, whose meta names the scan.
        output_dir: folder of the masks.
        output_postfix: ends the names, after an underscore.
        classes: names, background first.
        formats: see :func:`write_mask`.
        separate_classes: see :func:`write_mask`.
        resample: as the scans were read, see :func:`write_mask`.

    Raises:
        ModuleNotFoundError: if a format needs a library that is missing.
        ValueError: for a format that is none.

    Example:
        >>> mask = MetaTensor(np.zeros((1, 64, 64, 64), np.uint8), meta={"filename_or_obj": "ct.nii.gz"})
        >>> _ = SaveImageMasksd("pred", "results", "seg", ["background", "lung"])({"pred": mask})
        >>> sorted(path.name for path in Path("results").iterdir())
        ['ct_seg.ctbl', 'ct_seg.label.txt', 'ct_seg.nii.gz']
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str],
        output_postfix: str,
        classes: Sequence[str],
        formats: str | Sequence[str] = "nii.gz",
        separate_classes: bool = False,
        resample: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys)
        self.output_dir = Path(output_dir)
        self.output_postfix = output_postfix
        self.classes = classes
        self.formats = check_formats(formats)
        self.separate_classes = separate_classes
        self.resample = resample

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the masks of a sample, and return it as it is."""
        for key in self.key_iterator(dict(data)):
            mask = data[key]
            stem = self.output_dir / f"{_case(data, mask)}_{self.output_postfix}"
            voxels = mask[0].cpu().numpy()
            write_mask(voxels, _scan(mask), stem, self.classes, self.formats, self.separate_classes, self.resample)
        return dict(data)


class SaveImageVolumesd(SaveImaged):
    """Write volumes of numbers, such as probabilities, in the geometry of their scans, as float32 in NIfTI.

    The file is ``OUTPUT_DIR/CASE_POSTFIX.nii.gz``, with channels on its last axis if there are several.

    Args:
        keys: of volumes (C, x, y, z), whose meta names the scan.
        output_dir: folder of the files.
        output_postfix: ends the names, after an underscore.
        inverse: what brings an item with one channel of a key onto the grid of its scan, such as ``Invertd``; it takes
            one channel after the other, so that no more than one need exist there. None for volumes that lie there.
        classes: names of the channels; with them each channel has a file of its own, ``CASE_POSTFIX_CLASS.nii.gz``.
        resample: as the scans were read, see :func:`write_mask`.

    Example:
        >>> volume = MetaTensor(np.zeros((2, 64, 64, 64)), meta={"filename_or_obj": "ct.nii.gz"})
        >>> _ = SaveImageVolumesd("pred", "results", "probabilities")({"pred": volume})
        >>> [path.name for path in Path("results").iterdir()]
        ['ct_probabilities.nii.gz']
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str],
        output_postfix: str,
        inverse: Callable[[dict[Hashable, Any]], Mapping[Hashable, Any]] | None = None,
        classes: Sequence[str] | None = None,
        resample: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys)
        self.output_dir = Path(output_dir)
        self.output_postfix = output_postfix
        self.inverse = inverse
        self.classes = classes
        self.resample = resample

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the volumes of a sample, and return it as it is."""
        for key in self.key_iterator(dict(data)):
            self._write(data, key)
        return dict(data)

    def _write(self, data: Mapping[Hashable, Any], key: Hashable) -> None:
        first = self._channel(data, key, 0)
        scan, stem = _scan(first), self.output_dir / f"{_case(data, first)}_{self.output_postfix}"
        shape, count = tuple(first.shape[1:]), len(data[key])
        channels = chain([first], (self._channel(data, key, index) for index in range(1, count)))
        volumes = (channel[0].cpu().float().numpy() for channel in channels)
        if self.classes is None:
            file = Path(f"{stem}.nii.gz")
            with all_or_none([file]):
                write_nifti(file, volumes, shape if count == 1 else (*shape, count), np.float32, scan, self.resample)
        else:
            files = [Path(f"{stem}_{file_part(name)}.nii.gz") for name in self.classes]
            with all_or_none(files):
                for file, volume in zip(files, volumes, strict=True):
                    write_nifti(file, [volume], shape, np.float32, scan, self.resample)

    def _channel(self, data: Mapping[Hashable, Any], key: Hashable, index: int) -> MetaTensor:
        channel = data[key][index : index + 1]
        return channel if self.inverse is None else self.inverse({**data, key: channel})[key]


def _scan(result: MetaTensor) -> str:
    return str(result.meta["filename_or_obj"])


def _case(data: Mapping[Hashable, Any], result: MetaTensor) -> str:
    return str(data["case"] if "case" in data else case_name(_scan(result)))
