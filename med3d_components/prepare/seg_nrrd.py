"""Segmentations of 3D Slicer: an NRRD file of one or several layers, whose header names the segments."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from med3d_components.data.volumes import open_scan
from med3d_components.prepare.layer import Layer

__all__ = ["is_slicer_segmentation", "read_seg_nrrd"]

_KEY = re.compile(r"Segment(\d+)_(ID|Name|Layer|LabelValue)$")
_FRACTIONS = "Fractional labelmap"


class _Segment(NamedTuple):
    name: str
    layer: int
    value: int  # of its voxels in that layer


def is_slicer_segmentation(path: Path) -> bool:
    """Tell whether a file is an NRRD volume whose header has segments; its name need not end with ``.seg.nrrd``."""
    return path.name.lower().endswith(".nrrd") and path.is_file() and bool(_read_segments(_read_keys(path)))


def read_seg_nrrd(path: Path) -> Iterator[Layer]:
    """Read the layers of a segmentation of 3D Slicer, whose segments are numbered from 1 in the order of the header.

    Two segments in different layers may have one label value there, so it does not tell them apart.

    Args:
        path: of a file for which :func:`is_slicer_segmentation` is true.

    Raises:
        ValueError: if it cannot be read, holds fractions instead of labels, names a layer that is not there, or has
            voxels that belong to no segment.
    """
    keys = _read_keys(path)
    if _FRACTIONS in keys.get("Segmentation_ContainedRepresentationNames", ""):
        raise ValueError(f"{path} holds fractions instead of labels; export it from 3D Slicer as a binary labelmap.")
    segments = _read_segments(keys)
    scan = open_scan(path)
    stack = scan.voxels().reshape(*scan.shape, scan.channels)
    inside: dict[int, dict[int, int]] = defaultdict(dict)
    for number, segment in segments.items():
        if segment.layer >= scan.channels or segment.value in inside[segment.layer]:
            raise ValueError(
                f"{path}: segment {segment.name!r} has layer {segment.layer} and value {segment.value}, which "
                f"{'another has as well' if segment.layer < scan.channels else 'is not there'}; save it from 3D Slicer."
            )
        inside[segment.layer][segment.value] = number
    for layer in range(scan.channels):
        stored = stack[..., layer]
        found = set(np.unique(stored).tolist()) - {0}
        if stray := sorted(found - inside[layer].keys()):
            raise ValueError(
                f"{path} has voxels of value {stray[0]:g}, which no segment names; save it from 3D Slicer."
            )
        voxels = np.zeros(stored.shape, np.uint16)
        for value, number in inside[layer].items():
            voxels[stored == value] = number
        yield Layer(voxels, scan.affine, {number: segments[number].name for number in inside[layer].values()})


def _read_segments(keys: Mapping[str, str]) -> dict[int, _Segment]:
    """Return number to segment. Files of Slicer 4.10 and earlier have a layer for each, and value 1 in it."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for key, value in keys.items():
        if match := _KEY.match(key):
            found[int(match[1])][match[2]] = value
    return {
        index + 1: _Segment(
            name=(each.get("Name") or each.get("ID") or f"segment {index + 1}").strip(),
            layer=int(each.get("Layer", index)),
            value=int(each.get("LabelValue", 1)),
        )
        for index, each in sorted(found.items())
    }


def _read_keys(path: Path) -> dict[str, str]:
    """Return the key/value pairs (``key:=value``) of an NRRD header, which ends with an empty line."""
    pairs: dict[str, str] = {}
    with path.open("rb") as file:
        while (line := file.readline().strip(b"\r\n")) and len(pairs) < 1 << 16:
            key, sign, value = line.decode("utf-8", "replace").partition(":=")
            if sign:
                pairs[key.strip()] = value.replace("\\n", "\n").replace("\\\\", "\\")
    return pairs
