"""Scans of several channels: what the channels are called, which files hold them, and that these lie on one grid.

Such a scan is one file with the channels on its fourth axis, or a file for each channel: a list in ``dataset.json``, or
``CASE_0000``, ``CASE_0001`` and so on beside each other, as nnU-Net names them.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray

from med3d_components.data.geometry import corner_distance
from med3d_components.data.place import find_place
from med3d_components.data.scan import Scan

__all__ = ["channel_items", "channel_names", "split_channel", "stack_channels", "wrong_channels"]

logger = logging.getLogger(__name__)

NUMBERED = re.compile(r"(.+)_(\d{4})")


def split_channel(name: str) -> tuple[str, int | None]:
    """Return case and channel of a scan's name, whose channel is None if it names none.

    Example:
        >>> split_channel("patient_7_0001"), split_channel("patient_7")
        (('patient_7', 1), ('patient_7', None))
    """
    found = NUMBERED.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def wrong_channels(case: str, numbers: Collection[int], in_channels: int) -> str | None:
    """Say in which way the channels that are there as files are not those that are needed, or return None.

    Example:
        >>> wrong_channels("p", [0, 2], in_channels=3)
        '3 channels are needed, but p has files for 0, 2: give each of p_0000 to p_0002 and no more.'
    """
    if sorted(numbers) == list(range(in_channels)):
        return None
    there = ", ".join(map(str, sorted(numbers)))
    return (
        f"{in_channels} channels are needed, but {case} has files for {there}: "
        f"give each of {case}_0000 to {case}_{in_channels - 1:04d} and no more."
    )


def channel_items(
    scans: Mapping[str, str], whole: Collection[str], in_channels: int, channel: int | None = None
) -> dict[str, dict[str, Any]]:
    """Return items of scans by case, of which each has its channels: one file of all, or a list of files.

    Args:
        scans: name to path of volumes.
        whole: names of those that are scans, whatever they are called; the others called ``CASE_0000``, ``CASE_0001``
            and so on are channels of one.
        in_channels: that such a scan must have.
        channel: the only one that is taken of such a scan; None for all.

    Returns:
        Case to ``{"image", "case"}``; where channels are missing or too many, with the reason under "error".

    Example:
        >>> items = channel_items({"p_0000": "p_0000.nii.gz", "p_0001": "p_0001.nii.gz", "q": "q.nii.gz"}, "q", 2)
        >>> items["p"]["image"], items["q"]["image"]
        (['p_0000.nii.gz', 'p_0001.nii.gz'], 'q.nii.gz')
    """
    cases: dict[str, dict[int | None, str]] = defaultdict(dict)
    for name, path in scans.items():
        case, number = (name, None) if name in whole else split_channel(name)
        cases[case][number] = path
    return {case: _item(case, files, in_channels, channel) for case, files in cases.items()}


def _item(case: str, files: Mapping[int | None, str], in_channels: int, channel: int | None) -> dict[str, Any]:
    numbers = sorted(number for number in files if number is not None)
    whole, parts, reason = files.get(None), [files[number] for number in numbers], None
    if whole and parts:
        reason = f"{whole} and {parts[0]} have one name, {case}; rename one, or move it away."
    elif parts and channel is None:
        reason = wrong_channels(case, numbers, in_channels)
    elif parts and channel not in numbers:
        there = ", ".join(map(str, numbers))
        reason = f"the channel {channel} is needed, but {case} has files for {there}: give {case}_{channel:04d}."
    item = {"image": whole or files.get(channel) or parts, "case": case}
    return {**item, "error": reason} if reason else item


def channel_names(
    names: Any,
    in_channels: int,
    channel: int | None,
    path: str | os.PathLike[str],
    trained: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Return what the channels that a network sees are called.

    Args:
        names: as a ``dataset.json`` has them under "channel_names", as for nnU-Net, or under "modality", as in the
            Medical Segmentation Decathlon: of all channels of its scans, by number; None if it has none.
        in_channels: of the network.
        channel: the one that a network of one channel sees of scans with several; None if they have one.
        path: of the ``dataset.json``.
        trained: names that the weights of a network with several know its channels by.

    Raises:
        ValueError: if it names another number of channels than those of a network with several, or the trained ones in
            another order. Other names are a warning.

    Example:
        >>> channel_names({"0": "T2", "1": "ADC"}, 2, None, "dataset.json")
        ('T2', 'ADC')
    """
    if in_channels == 1:
        name = names.get(str(channel or 0)) if isinstance(names, Mapping) else None
        return (name if isinstance(name, str) else "image",)
    if names is None:
        return tuple(trained or (f"channel {number}" for number in range(in_channels)))
    wanted = [str(number) for number in range(in_channels)]
    if not isinstance(names, Mapping) or sorted(names) != sorted(wanted):
        raise ValueError(f"in_channels is {in_channels}, but {path} names the channels {names}; correct one of both.")
    found = tuple(str(names[number]) for number in wanted)
    if trained and found != tuple(trained):
        line = f"{path} calls the channels {', '.join(found)}, but the weights know them as {', '.join(trained)}"
        if sorted(found) == sorted(trained):
            raise ValueError(f"{line}; bring the files and names into that order.")
        logger.warning("%s.", line)
    return found


def stack_channels(scans: Sequence[Scan]) -> Scan:
    """Return several scans of one channel and one grid as one scan of several channels, in the place of the first.

    Channels whose axes run in another order or direction are turned, without loss.

    Raises:
        ValueError: if one has several channels, or another grid than the first; it says by how many mm.

    Example:
        >>> from med3d_components.data.volumes import open_scan
        >>> stack_channels([open_scan("ct.nii.gz"), open_scan("ct.nii.gz")]).voxels().shape
        (64, 64, 64, 2)
    """
    first, parts = scans[0], []
    for scan in scans:
        if scan.channels > 1:
            raise ValueError(
                f"{scan.path} has {scan.channels} channels, but must have one, as one of {len(scans)} files of a scan; "
                "split it."
            )
        turned = _turn(scan, first)
        if turned.shape != first.shape:
            sizes = (" x ".join(map(str, each.shape)) for each in (first, scan))
            raise ValueError(
                "{} and {}, channels of one scan, have {} and {} voxels; resample one to the other.".format(
                    first.path, scan.path, *sizes
                )
            )
        if far := corner_distance(first.affine, turned.affine, first.shape):
            raise ValueError(
                f"{scan.path} lies up to {far:.3g} mm off {first.path}, but both are channels of one scan; "
                "resample one to the grid of the other."
            )
        parts.append(turned)
    return replace(first, parts=tuple(parts), channels=len(scans), has_spacing=all(scan.has_spacing for scan in scans))


def _turn(scan: Scan, first: Scan) -> Scan:
    """Return a scan of one channel with its axes in the order and direction of those of another."""
    turn = find_place(scan.shape, scan.affine, first.shape, first.affine).turn
    read_all = partial(_read_turned, scan, turn)
    affine = scan.affine @ inv_ornt_aff(turn, scan.shape)
    x, y, z = (scan.shape[int(axis)] for axis in np.argsort(turn[:, 0]))
    return replace(scan, shape=(x, y, z), affine=affine, read_all=read_all, read_box=lambda box: read_all()[tuple(box)])


def _read_turned(scan: Scan, turn: NDArray[Any]) -> NDArray[Any]:
    voxels: NDArray[Any] = apply_orientation(scan.read_all(), turn)
    return voxels
