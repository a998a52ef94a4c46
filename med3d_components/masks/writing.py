"""All files of a mask: which they are, and writing them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from med3d_components.masks.classes import file_part, mask_classes, write_color_table, write_label_description
from med3d_components.masks.dicom_seg import check_highdicom, write_dicom_seg
from med3d_components.masks.nifti import write_nifti
from med3d_components.masks.nrrd import write_seg_nrrd
from med3d_components.masks.rtstruct import write_rtstruct

__all__ = ["FORMATS", "all_or_none", "check_formats", "write_mask"]

Writer: TypeAlias = Callable[..., None]

FORMATS = {"nii.gz": ".nii.gz", "seg.nrrd": ".seg.nrrd", "dicom-seg": ".seg.dcm", "rtstruct": ".rtstruct.dcm"}
"""The formats of a mask, and how their files' names end."""


def check_formats(formats: str | Sequence[str]) -> tuple[str, ...]:
    """Return the formats of a mask after a check that all can be written here.

    Args:
        formats: one or several of ``FORMATS``.

    Raises:
        ValueError: if there is none, or one that is none.
        ModuleNotFoundError: if a library is missing.
    """
    chosen = (formats,) if isinstance(formats, str) else tuple(dict.fromkeys(formats))
    if not chosen or not set(chosen) <= set(FORMATS):
        raise ValueError(f"format is {list(chosen)}, but must be one or several of {', '.join(FORMATS)}.")
    if "dicom-seg" in chosen:
        check_highdicom()
    return chosen


def write_mask(
    mask: NDArray[Any],
    scan_path: str | os.PathLike[str],
    stem: str | os.PathLike[str],
    classes: Sequence[str],
    formats: str | Sequence[str] = "nii.gz",
    separate_classes: bool = False,
    resample: bool = False,
) -> list[Path]:
    """Write a mask in the geometry of its scan: all of its files, or none.

    Beside a NIfTI mask lie the names and colours of its classes, for 3D Slicer and for ITK-SNAP.

    Args:
        mask: (x, y, z) of integers, in the order of the scan's voxels.
        scan_path: of the scan, of any format.
        stem: folder and beginning of the files' names.
        classes: names in the order of their values, background first.
        formats: one or several of ``FORMATS``; DICOM SEG and RTSTRUCT are for scans that are DICOM series.
        separate_classes: also one NIfTI file of 0 and 1 for each class; the other formats keep them apart themselves.
        resample: whether the scan is a DICOM series that was resampled as it was read.

    Returns:
        The files.

    Raises:
        FileExistsError: if there is one of the files; nothing is overwritten.
        ModuleNotFoundError: if a library is missing.
        ValueError: for a format that is none or not for this scan, and a mask that has not the scan's voxels or other
            values than the classes.

    Example:
        >>> mask = np.zeros((64, 64, 64), np.uint8)
        >>> [path.name for path in write_mask(mask, "ct.nii.gz", "results/ct_seg", ["background", "lung"], "seg.nrrd")]
        ['ct_seg.seg.nrrd']
    """
    mask = np.asarray(mask)
    if mask.min() < 0 or mask.max() >= len(classes):
        raise ValueError(
            f"The mask of {scan_path} has values from {mask.min()} to {mask.max()}, "
            f"but they must be those of {len(classes)} classes, 0 to {len(classes) - 1}."
        )
    mask = mask.astype(np.min_scalar_type(len(classes) - 1), copy=False)
    plan = _plan(stem, classes, formats, separate_classes)
    with all_or_none(plan):
        for file, write in plan.items():
            write(file, mask, scan_path, resample=resample)
    return list(plan)


@contextmanager
def all_or_none(files: Collection[Path]) -> Iterator[None]:
    """Write files in a block that leaves none of them if it ends with an error.

    Raises:
        FileExistsError: if there is one of them.

    Example:
        >>> with all_or_none([Path("ct.nii.gz")]):
        ...     pass
        Traceback (most recent call last):
        ...
        FileExistsError: ct.nii.gz exists already and is not overwritten; move it, or name another output_dir.
    """
    for file in files:
        if file.exists():
            raise FileExistsError(f"{file} exists already and is not overwritten; move it, or name another output_dir.")
    try:
        yield
    except BaseException:
        for file in files:
            file.unlink(missing_ok=True)
        raise


def _plan(
    stem: str | os.PathLike[str], names: Sequence[str], formats: str | Sequence[str], separate_classes: bool
) -> dict[Path, Writer]:
    """Return what writes each of the files."""
    classes = mask_classes(names)
    writers: dict[str, Writer] = {
        "nii.gz": _write_labels,
        "seg.nrrd": partial(write_seg_nrrd, classes=classes),
        "dicom-seg": partial(write_dicom_seg, classes=classes),
        "rtstruct": partial(write_rtstruct, classes=classes),
    }
    chosen = check_formats(formats)
    plan = [(FORMATS[name], writers[name]) for name in chosen]
    if "nii.gz" in chosen:
        plan.append((".ctbl", lambda path, *_, **__: write_color_table(path, classes)))
        plan.append((".label.txt", lambda path, *_, **__: write_label_description(path, classes)))
        plan += [
            (f"_{file_part(each.name)}.nii.gz", partial(_write_class, each.value))
            for each in classes
            if separate_classes
        ]
    if len(dict(plan)) < len(plan):
        raise ValueError(f"Two of the classes {', '.join(names)} would have one file; rename one in settings.json.")
    return {Path(f"{stem}{ending}"): writer for ending, writer in plan}


def _write_labels(path: Path, mask: NDArray[Any], scan_path: str | os.PathLike[str], resample: bool) -> None:
    write_nifti(path, [mask], mask.shape, mask.dtype, scan_path, resample)


def _write_class(value: int, path: Path, mask: NDArray[Any], scan_path: str | os.PathLike[str], resample: bool) -> None:
    _write_labels(path, (mask == value).view(np.uint8), scan_path, resample)
