"""Folders with a dataset.json: tasks of the Medical Segmentation Decathlon, and raw datasets of nnU-Net.

Of the Decathlon::

    {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"},
     "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}, ...]}

Of nnU-Net, whose image has a file for each channel, ``imagesTr/a_0000.nii.gz`` and so on, and whose label is
``labelsTr/a.nii.gz``::

    {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz", "numTraining": 1}

or where they are listed, with paths that start at the folder, and no other case counts::

    {..., "dataset": {"a": {"images": ["../scans/a.nii.gz"], "label": "labelsTr/a.nii.gz"}, ...}}
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from med3d_components.data.dataset_json import Entry, SegmentationList, path_on_disk, read_dataset_json
from med3d_components.data.labelled import find_images, name_case
from med3d_components.data.scan import case_name
from med3d_components.prepare.layouts.base import CaseSource, LabelSource, Layout
from med3d_components.prepare.pairing import same_form

__all__ = ["read_task"]

_SHOWN = 3
_CHANNEL = re.compile(r"(.+)_(\d{4})")


def read_task(folder: Path) -> Layout:
    """Read the dataset.json of a folder, and find the files of its cases.

    Args:
        folder: of a task.

    Raises:
        FileNotFoundError: if a file is missing that it names, or that belongs to a case.
        ValueError: if it is no list of segmentations.
    """
    file = folder / "dataset.json"
    content = read_dataset_json(file)
    labels = content.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise ValueError(f"{file} has no 'labels' that name the classes, so it is no list of segmentations.")
    nnunet = "channel_names" in content or "file_ending" in content or isinstance(content.get("dataset"), dict)
    names, parts, unlabelled = _read_classes(file, labels)
    if content.get("training") and content.keys().isdisjoint({"file_ending", "dataset"}):
        nnunet = False  # a list to train on, which calls its channels as nnU-Net does
    cases = _nnunet_cases(file, content) if nnunet else _decathlon_cases(file, content)
    if not cases:
        raise ValueError(f"{file} has no case to train on.")
    kind = "raw dataset of nnU-Net" if nnunet else "task of the Medical Segmentation Decathlon"
    own = {key: str(content[key]) for key in ("reference", "licence") if content.get(key)}
    return Layout(
        title=kind,
        cases=cases,
        names=names,
        parts=parts,
        unlabelled=unlabelled,
        channels=_channel_names(content),
        channel=_read_channel(file, content),
        source=own.get("reference", Layout.source),
        licence=own.get("licence", Layout.licence),
    )


def _channel_names(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what nnU-Net or the Decathlon calls the channels; nothing where they have no names."""
    names = content.get("channel_names", content.get("modality"))
    return tuple(map(str, names.values())) if isinstance(names, dict) else ()


def _read_channel(file: Path, content: Mapping[str, Any]) -> int:
    channel = content.get("channel", 0)
    if type(channel) is not int or channel < 0:
        raise ValueError(f"{file}: 'channel' must be a whole number, 0 or more, but is {channel!r}.")
    return channel


_Classes = tuple[dict[int, str], dict[str, tuple[int, ...]], int | None]


def _read_classes(file: Path, labels: Mapping[str, Any]) -> _Classes:
    """Return value to name, name to values of a union, and the value of what nobody labelled."""
    turned = all(isinstance(value, str) for value in labels.values())  # as in the Decathlon: value to name
    pairs = [(value, key) if turned else (key, value) for key, value in labels.items()]
    found = [(str(name).strip(), _read_values(file, name, value)) for name, value in pairs]
    single = [values[0] for _, values in found if len(values) == 1]
    for listed, what in ((single, "value"), ([name for name, _ in found], "name")):
        if len(set(listed)) < len(listed):
            raise ValueError(f"{file}: two classes of 'labels' have one {what}; mend it.")
    unlabelled = next((values[0] for name, values in found if name == "ignore"), None)
    names = {values[0]: name for name, values in found if len(values) == 1 and values[0] not in (0, unlabelled)}
    return names, {name: values for name, values in found if len(values) > 1}, unlabelled


def _read_values(file: Path, name: str, value: Any) -> tuple[int, ...]:
    several = value if isinstance(value, list) else [value]
    if not several or not all(str(one).isdecimal() for one in several):
        raise ValueError(f"{file}: the class {name!r} has the value {value!r}, but must have a whole number.")
    return tuple(int(one) for one in several)


def _decathlon_cases(file: Path, content: Mapping[str, Any]) -> dict[str, CaseSource]:
    """Return the cases that the list names, with all their channels. Tasks for nnU-Net 1 leave ``_0000`` out of it."""
    entries = content.get("training")
    if not isinstance(entries, list):
        raise ValueError(f"{file} has no list 'training' of cases.")
    listed = SegmentationList((), None, tuple(_read_entry(file, entry) for entry in entries))
    cases: dict[str, CaseSource] = {}
    for entry in listed.entries:
        images = find_images(file, listed, entry, len(_channel_names(content)) or 1)
        name = same_form(name_case(replace(entry, images=images) if len(images) > 1 else entry))
        for path in (*images, entry.label):
            if not path.exists():
                raise FileNotFoundError(f"{path} does not exist, but {file} names it; add it, or drop its entry.")
        if name in cases:
            raise ValueError(f"{file} lists the case {name} twice; drop one of the entries.")
        cases[name] = CaseSource(images, (LabelSource(entry.label),))
    return cases


def _nnunet_cases(file: Path, content: Mapping[str, Any]) -> dict[str, CaseSource]:
    """Return the cases that are listed, or those that are there; each has all channels."""
    listed = content.get("dataset")
    cases = _found_cases(file, content) if listed is None else _listed_cases(file, listed)
    count = len(content.get("channel_names") or {}) or max((len(case.images) for case in cases.values()), default=0)
    for name, case in cases.items():
        if len(case.images) != count:
            have = ", ".join(path.name for path in case.images)
            raise FileNotFoundError(f"{file.parent}: the case {name} has {have}, but should have {count} channels.")
    return cases


def _listed_cases(file: Path, listed: Any) -> dict[str, CaseSource]:
    """Return the cases of the entry "dataset"."""
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{file}: 'dataset' must map each case to its 'images' and 'label'; mend or drop it.")
    cases: dict[str, CaseSource] = {}
    for name, entry in listed.items():
        images, label = (entry.get(key) if isinstance(entry, dict) else None for key in ("images", "label"))
        texts = [*images, label] if isinstance(images, list) else []
        if len(texts) < 2 or not all(text and isinstance(text, str) for text in texts):
            raise ValueError(f"{file}: {name!r} of 'dataset' must have a list of 'images', and a 'label'; mend it.")
        paths = [path_on_disk(file.parent / text) for text in texts]
        if missing := [path for path in paths if not path.exists()]:
            raise FileNotFoundError(f"{missing[0]} does not exist, but {file} names it; add it, or drop its entry.")
        if same_form(name) in cases:
            raise ValueError(f"{file} lists the case {name} twice; drop one of the entries.")
        cases[same_form(name)] = CaseSource(tuple(paths[:-1]), (LabelSource(paths[-1]),))
    return cases


def _found_cases(file: Path, content: Mapping[str, Any]) -> dict[str, CaseSource]:
    ending = str(content.get("file_ending", ".nii.gz"))
    images = _channel_files(file.parent / "imagesTr", ending)
    if not images:
        _check_ending(file, ending)
    labels = {same_form(path.name.removesuffix(ending)): path for path in _list(file.parent / "labelsTr", ending)}
    for name in sorted(labels.keys() ^ images.keys()):
        missing = f"labelsTr/{name}{ending}" if name in images else f"imagesTr/{name}_0000{ending}"
        raise FileNotFoundError(f"{file.parent / missing} does not exist; add it, or move the case {name} away.")
    for name, files in images.items():
        if list(files) != list(range(len(files))):
            lacking = next(number for number in range(len(files)) if number not in files)
            raise FileNotFoundError(f"{file.parent}: the case {name} lacks its channel _{lacking:04d}; add the file.")
    return {name: CaseSource(tuple(files.values()), (LabelSource(labels[name]),)) for name, files in images.items()}


def _check_ending(file: Path, ending: str) -> None:
    """Refuse images of which none is called as it should be."""
    folder = file.parent / "imagesTr"
    if others := [path.name for path in _list(folder, "")]:
        some = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        raise ValueError(
            f"{folder} has no file that ends with _0000{ending} (the 'file_ending' of {file.name} is {ending}); "
            f"there is {some}; mend the entry, or rename the files."
        )


def _channel_files(folder: Path, ending: str = "") -> dict[str, dict[int, Path]]:
    """Return case to number of the channel to file, for files as ``a_0000.nii.gz``."""
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in _list(folder, ending):
        if match := _CHANNEL.fullmatch(path.name.removesuffix(ending) if ending else case_name(path)):
            found[same_form(match[1])][int(match[2])] = path
    return dict(found)


def _list(folder: Path, ending: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{ending}") if not path.name.startswith("."))


def _read_entry(file: Path, entry: Any) -> Entry:
    """Return an entry of 'training', whose image is one file, or a list of one for each channel."""
    image, label = (entry.get(key) if isinstance(entry, dict) else None for key in ("image", "label"))
    images = image if isinstance(image, list) else [image]
    paths = [path_on_disk(file.parent / path) for path in (*images, label) if isinstance(path, str)]
    if not images or len(paths) <= len(images):
        raise ValueError(f"{file}: {entry!r} of 'training' has not both an 'image' and a 'label'.")
    return Entry(tuple(paths[:-1]), paths[-1])
