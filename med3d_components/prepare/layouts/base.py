"""What a layout of files says: which cases there are, and what is known of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["CaseSource", "LabelSource", "Layout"]


class LabelSource(NamedTuple):
    """A label file of a case.

    Attributes:
        path: of any kind that :func:`read_layers` reads.
        name: of the class that it is the mask of; empty where its values, or names inside it, tell classes apart.
    """

    path: Path
    name: str = ""


class CaseSource(NamedTuple):
    """The files of a case.

    Attributes:
        images: one for each channel.
        labels: one or more.
    """

    images: tuple[Path, ...]
    labels: tuple[LabelSource, ...]


@dataclass(frozen=True)
class Layout:
    """What was found in a folder.

    Attributes:
        title: of the layout, as it is said on the screen.
        cases: by name.
        names: label value to class, where one file tells it for all cases.
        parts: names of classes that are unions of others in ``names``, to their values; a voxel may be in several.
        unlabelled: label value of voxels that nobody labelled; None if there is none.
        channels: names of the channels of a case; empty where nothing tells them.
        channel: which of them to use, where the source says so.
        source: who publishes the scans.
        licence: of the scans.
    """

    title: str
    cases: Mapping[str, CaseSource]
    names: Mapping[int, str] = field(default_factory=dict)
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unlabelled: int | None = None
    channels: tuple[str, ...] = ()
    channel: int = 0
    source: str = "own files"
    licence: str = "that of the files it was imported from"
