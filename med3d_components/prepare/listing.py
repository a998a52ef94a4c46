"""What a folder of data holds: labelled cases in Decathlon layout, or scans without labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from med3d_components.data.dataset_json import Entry, SegmentationList, read_dataset_json, read_segmentations
from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.data.duplicates import check_listed_once
from med3d_components.data.folders import list_images
from med3d_components.data.labelled import find_images, name_case

__all__ = ["DataFolder", "Item", "list_data"]


class Item(NamedTuple):
    """A case to look at: its name, the paths of image and label, and why it is none, where that is known.

    Several images are its channels.
    """

    name: str
    images: tuple[str, ...] = ()
    label: str | None = None
    error: str = ""


class DataFolder(NamedTuple):
    """What a folder holds.

    Attributes:
        folder: itself.
        items: its cases.
        classes: names, background first; empty where there are no labels.
        modality: as its ``dataset.json`` states it; empty where it does not.
        channel: that is looked at of 4-D images.
        channels: that ``dataset.json`` names, where a training may see them all; 1 where it names no or one channel.
    """

    folder: Path
    items: list[Item]
    classes: tuple[str, ...] = ()
    modality: str = ""
    channel: int = 0
    channels: int = 1


def list_data(folder: str | os.PathLike[str]) -> DataFolder:
    """List the cases of a folder, readable or not.

    Args:
        folder: in the layout of the Medical Segmentation Decathlon; or of scans at any depth, see :func:`list_images`.

    Raises:
        FileNotFoundError: if it is no folder, or holds nothing.
        ValueError: if it is a folder of such folders, or its ``dataset.json`` is not valid or lists nodules.

    Example:
        >>> list_data("3DSeg-8/Task09_Spleen").items[0].name
        'case_0'
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; name one in Decathlon layout, or a folder of scans.")
    if (folder / "dataset.json").is_file():
        return _list_decathlon(folder)
    domains = sorted(path.parent.name for path in folder.glob("[!.]*/dataset.json"))
    if domains:
        raise ValueError(f"{folder} holds several data sets; check them one by one: {', '.join(domains)}.")
    listed = list_images(folder)
    return DataFolder(folder, [Item(each["case"], (each["image"],), None, each.get("error", "")) for each in listed])


def _list_decathlon(folder: Path) -> DataFolder:
    path = folder / "dataset.json"
    content = read_dataset_json(path)
    if "nodules" in content:
        raise ValueError(f"{path} lists nodules to classify; check looks at segmentation data and at folders of scans.")
    listed = read_segmentations(path)
    check_listed_once(path, listed.entries)
    if not listed.entries:
        raise ValueError(f"{path} lists no case under 'training'.")
    known = DOMAINS_3DSEG8.get(folder.resolve().name)
    channel = known.channel if known and listed.channel is None else listed.channel or 0
    several = listed.channel is None and isinstance(listed.channel_names, Mapping)
    channels = max(len(listed.channel_names), 1) if several else 1
    items = [_item(path, listed, each, channels) for each in listed.entries]
    return DataFolder(folder, items, listed.classes, _modality(content, channel), channel, channels)


def _item(path: Path, listed: SegmentationList, entry: Entry, channels: int) -> Item:
    """Return a case with the images that a training would see."""
    try:
        entry = replace(entry, images=find_images(path, listed, entry, channels))
        error = ""
    except (OSError, ValueError) as reason:
        error = str(reason)
    return Item(name_case(entry), tuple(map(str, entry.images)), str(entry.label), error)


def _modality(content: Mapping[str, Any], channel: int) -> str:
    names = content.get("channel_names", content.get("modality"))
    return str(names.get(str(channel), "")) if isinstance(names, dict) else ""
