"""DICOM Segmentation objects, whose frames lie in any order and whose segments may overlap."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from med3d_components.data.dicom_files import quiet
from med3d_components.data.itk_files import LPS_TO_RAS
from med3d_components.prepare.layer import Layer

__all__ = ["read_dicom_seg"]


def read_dicom_seg(path: Path) -> Iterator[Layer]:
    """Read the segments of a DICOM SEG, a layer for each, with its number in the file.

    Args:
        path: of the SEG, which has a grid of its own.

    Raises:
        ModuleNotFoundError: without highdicom.
        ValueError: if highdicom cannot read it as a volume, or it holds probabilities.
    """
    if find_spec("highdicom") is None:
        raise ModuleNotFoundError(
            f'To read {path}, a DICOM SEG, highdicom is needed; install it with pip install "med3d-components[dicom]".'
        )
    import highdicom as hd

    try:
        with quiet():
            seg = hd.seg.segread(path)
            names = {number: str(seg.get_segment_description(number).segment_label) for number in seg.segment_numbers}
        for number, name in names.items():
            yield _read_segment(path, seg, number, name.strip())
    except (AttributeError, KeyError, RuntimeError, TypeError, NotImplementedError) as e:
        raise ValueError(
            f"{path} is cut off, or no segmentation that highdicom reads ({type(e).__name__}: {e}); copy it anew, or "
            "convert it to NIfTI."
        ) from e


def _read_segment(path: Path, seg: Any, number: int, name: str) -> Layer:
    """Return a segment on the smallest grid of whole planes that holds it."""
    with quiet():
        try:
            volume = seg.get_volume(segment_numbers=[number], allow_missing_positions=True)
        except ValueError as e:
            raise ValueError(
                f"{path}: the frames of {name!r} are no volume ({e}); copy it anew, or convert it to NIfTI."
            ) from e
    array = np.asarray(volume.array)[..., 0]
    if not np.isin(array[array != 0], 1).all():
        raise ValueError(
            f"{path}: {name!r} holds probabilities instead of a region; write it as a binary segmentation."
        )
    return Layer(
        (array != 0).astype(np.uint16).T * np.uint16(number),
        LPS_TO_RAS @ volume.affine[:, [2, 1, 0, 3]],
        {number: name},
    )
