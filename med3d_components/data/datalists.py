"""Folders of volumes as lists of training and validation items; those of nodules are in ``nodules.py``.

A domain is a folder with a ``dataset.json`` in the layout of the Medical Segmentation Decathlon; its name is the
folder's name. All that headers show is found before training starts, in seconds for thousands of volumes; of labels,
the voxels of each class are counted, once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from med3d_components.data.channels import channel_names, split_channel, wrong_channels
from med3d_components.data.class_voxels import Voxels, check_foreground, class_voxels
from med3d_components.data.dataset_json import Entry, SegmentationList, read_segmentations
from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.data.duplicates import check_listed_once, warn_of_copies
from med3d_components.data.folders import channel_files, list_scans
from med3d_components.data.labels import check_label
from med3d_components.data.plausible import label_volumes
from med3d_components.data.scan import case_name
from med3d_components.data.splits import draw_key, draw_split, take_share
from med3d_components.data.volumes import Header, open_scan, read_header
from med3d_components.utils import as_flag

__all__ = [
    "Case",
    "Domain",
    "ImageDatalist",
    "MultiDomainDatalist",
    "SegmentationDatalist",
    "find_images",
    "name_case",
    "read_domain",
]

logger = logging.getLogger(__name__)

AVERAGES: dict[str, Callable[..., Any]] = {"median": np.median, "mean": np.mean}


@dataclass(frozen=True)
class Case:
    """One labelled volume: its name, its files, what their header says, and the voxels of each class.

    Several images are its channels.
    """

    name: str
    images: tuple[Path, ...]
    label: Path
    header: Header
    voxels: Voxels

    @property
    def image(self) -> Path:
        """The first image, by which messages call the case."""
        return self.images[0]


@dataclass(frozen=True)
class Domain:
    """One labelled dataset: its name, class names (background first), channel of a 4-D image, and cases.

    ``channel`` is None where the network sees all channels, whose names are ``channel_names``.
    """

    name: str
    classes: tuple[str, ...]
    channel: int | None
    channel_names: tuple[str, ...]
    cases: tuple[Case, ...]

    def split(self, val_fraction: float, seed: int, train_share: float = 1) -> tuple[list[Case], list[Case]]:
        """Return training and validation cases.

        A case is drawn by the hash of seed, domain and case name, so the split depends neither on the order of the
        files nor on the other domains. With a fraction of 1 every case is in both. Of the training cases a share is
        used, at least one case; it is part of any larger share, and the validation cases stay the same.
        """
        drawn = sorted(self.cases, key=lambda case: draw_key(seed, self.name, case.name))
        training, validation = draw_split(drawn, val_fraction)
        return sorted(take_share(training, train_share), key=_name), sorted(validation, key=_name)


class _Datalist:
    """What is common to the lists of labelled cases: one of a folder that does not exist may know the classes."""

    dataset_dir: str | os.PathLike[str]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "dataset_dir":
            raise AttributeError(name)
        raise FileNotFoundError(f"{self.dataset_dir} does not exist; name the folder of the data by --dataset_dir.")


class SegmentationDatalist(_Datalist):
    """Training and validation items of one Decathlon-style folder, with what the network needs to know of it.

    Args:
        dataset_dir: folder with a ``dataset.json``.
        val_fraction: share of the cases used for validation, at least one case. With 1 all cases are used for both
            training and validation: to evaluate other data than that of the training, or to over-fit on purpose.
        seed: of the split.
        patch_size: upper limit, in voxels, of the regions that training crops.
        average: of the training images' spacings, "median" or "mean" (Med3D takes the mean for LiTS).
        need_spacing: whether an image without a valid spacing is an error; otherwise it is left out of the average,
            with a warning, and :class:`EnsureSpacingd` gives it the average.
        merge_classes: whether every class counts as the first one, as the tumours of LiTS do as liver.
        train_share: share of the training cases that is used, at least one case; spacing and roi_size are theirs.
        default_classes: with them the folder need not exist; there is nothing but these classes then.
        in_channels: of the network. With several, images have as many: on their fourth axis, or each in a file, which
            ``dataset.json`` lists or which are called ``CASE_0000``, ``CASE_0001`` and so on.
        trained_channels: names of the channels that the weights know, see :func:`channel_names`.

    Attributes:
        name: of the folder.
        classes: names, background first; two if they are merged.
        label_values: number of values in the label files.
        merged: whether classes are merged.
        channel: that a network of one channel sees of images with several, None if all have what it sees.
        channel_names: of the channels that the network sees, see :func:`channel_names`.
        training: items ``{"image", "label", "case"}``; of several files, "image" is a list.
        validation: the same for validation.
        split: names of the training and of the validation cases.
        spacing: average spacing in mm of the training images (Med3D, section 3.1), axes as in RAS.
        roi_size: that training crops, in voxels at that spacing: the largest training volume, rounded up to a multiple
            of the encoder's output stride, within ``patch_size``.
        volumes_ml: class to its least and its largest volume in the training labels, see :func:`label_volumes`.

    Raises:
        FileNotFoundError: if the folder or a file named in its ``dataset.json`` does not exist.
        ValueError: for invalid folders and headers, labels that do not lie on their image or hold other values, and
            training labels without foreground; the message names the file.

    Example:
        >>> SegmentationDatalist("3DSeg-8/Task09_Spleen").spacing
        [0.75, 0.75, 5.0]
    """

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str],
        val_fraction: float = 0.1,
        seed: int = 0,
        patch_size: Sequence[int] = (96, 96, 96),
        average: str = "median",
        need_spacing: bool = True,
        merge_classes: bool | str = False,
        train_share: float = 1,
        default_classes: Sequence[str] | None = None,
        in_channels: int = 1,
        trained_channels: Sequence[str] | None = None,
    ) -> None:
        if average not in AVERAGES:
            raise ValueError(f"average is {average!r}, but must be one of {', '.join(AVERAGES)}.")
        self.dataset_dir = dataset_dir
        if default_classes is not None and not Path(dataset_dir).exists():
            self.classes = list(default_classes)
            return
        domain = read_domain(Path(dataset_dir).resolve(), need_spacing, in_channels, trained_channels)
        training, validation = domain.split(val_fraction, seed, train_share)
        self.name = domain.name
        self.merged = as_flag("merge_classes", merge_classes)
        self.label_values = len(domain.classes)
        self.classes = list(domain.classes[:2] if self.merged else domain.classes)
        self.channel, self.channel_names = domain.channel, list(domain.channel_names)
        self.training, self.validation = [_item(case) for case in training], [_item(case) for case in validation]
        self.split = {"training": [case.name for case in training], "validation": [case.name for case in validation]}
        voxels = [[case.voxels for case in cases] for cases in (training, validation)]
        check_foreground(domain.name, domain.classes, *voxels)
        spacings, sizes = (np.array([getattr(case.header, name) for case in training]) for name in ("spacing", "size"))
        known = ~np.isnan(spacings).any(axis=1)
        if not known.any():
            raise ValueError(f"No training image of {domain.name} has a valid spacing; repair the headers of some.")
        for case in training + validation:
            if np.isnan(case.header.spacing).any():
                logger.warning("%s has no valid spacing and gets the %s of the others.", case.image, average)
        self.volumes_ml = label_volumes(voxels[0], spacings.prod(axis=1) / 1000, self.classes)
        spacing = AVERAGES[average](spacings[known], axis=0)
        sizes = sizes * np.where(known[:, None], spacings, spacing) / spacing
        roi_size = np.minimum(8 * np.ceil(sizes.round().max(axis=0) / 8), patch_size)
        self.spacing = [float(value) for value in spacing]
        self.roi_size = [int(value) for value in roi_size]


class MultiDomainDatalist(_Datalist):
    """Training and validation items of all domains below a folder: a :class:`SegmentationDatalist` of each.

    Args:
        dataset_dir: folder that holds one sub-folder per domain, or is one domain itself.
        domains: names of the domains to use: a list, one name, or names joined by commas; None for all.
        val_fraction: share of each domain's cases used for validation, at least one case.
        seed: of the split.
        patch_size: upper limit, in voxels, of the regions that training crops.
        default_classes: of each domain; with them the folder need not exist, and there is nothing but these then.

    Attributes:
        domains: names, sorted.
        training: items ``{"image", "label", "case", "domain"}`` of all domains.
        validation: the same for validation.
        classes, channel, split, spacing, roi_size, volumes_ml: domain name to what :class:`SegmentationDatalist` says
            of it.

    Raises:
        FileNotFoundError: if the folder or a file named in a ``dataset.json`` does not exist.
        ValueError: for unknown domain names, invalid folders and headers; the message names the file.

    Example:
        >>> datalist = MultiDomainDatalist("3DSeg-8", domains="Task09_Spleen")
        >>> datalist.spacing
        {'Task09_Spleen': [0.75, 0.75, 5.0]}
    """

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str],
        domains: str | Sequence[str] | None = None,
        val_fraction: float = 0.1,
        seed: int = 0,
        patch_size: Sequence[int] = (96, 96, 96),
        default_classes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.dataset_dir = dataset_dir
        if default_classes is not None and not Path(dataset_dir).exists():
            self.classes = {name: list(classes) for name, classes in default_classes.items()}
            return
        folders = _find_domains(Path(dataset_dir), domains)
        lists = {folder.name: SegmentationDatalist(folder, val_fraction, seed, patch_size) for folder in folders}
        self.domains = list(lists)
        self.training = [{**item, "domain": name} for name, part in lists.items() for item in part.training]
        self.validation = [{**item, "domain": name} for name, part in lists.items() for item in part.validation]
        self.classes = {name: part.classes for name, part in lists.items()}
        self.channel = {name: part.channel for name, part in lists.items()}
        self.split = {name: part.split for name, part in lists.items()}
        self.spacing = {name: part.spacing for name, part in lists.items()}
        self.roi_size = {name: part.roi_size for name, part in lists.items()}
        self.volumes_ml = {name: part.volumes_ml for name, part in lists.items()}


class ImageDatalist:
    """Training and validation items of a folder of volumes, whose labels, if there are any, are not looked at.

    Args:
        dataset_dir: folder of NIfTI, NRRD or MetaImage files and of DICOM series at any depth, see
            :func:`list_scans`; or a folder in the layout of the Medical Segmentation Decathlon, of which ``imagesTr``
            is taken.
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
        >>> ImageDatalist("LUNA16").split["validation"]
        ['scan_6']
    """

    def __init__(
        self, dataset_dir: str | os.PathLike[str], val_fraction: float = 0.1, draws: int = 1, seed: int = 0
    ) -> None:
        folder = Path(dataset_dir).resolve()
        found = list_scans(folder / "imagesTr" if (folder / "dataset.json").is_file() else folder)
        for note in found.notes:
            logger.warning("%s", note)
        if found.failures:
            raise ValueError(" ".join(dict.fromkeys(found.failures.values())))
        if len(found.scans) < 2:
            raise ValueError(f"{folder} holds one volume; at least 2 are needed, one to validate on.")
        self.name = folder.name
        drawn = sorted(found.scans, key=lambda case: draw_key(seed, self.name, case))
        training, validation = draw_split(drawn, val_fraction)
        self.split = {"training": sorted(training), "validation": sorted(validation)}
        items_of = {
            part: [{"image": found.scans[case], "case": case} for case in names] for part, names in self.split.items()
        }
        self.training, self.validation = items_of["training"] * draws, items_of["validation"]


def read_domain(
    folder: Path, need_spacing: bool = True, in_channels: int = 1, trained_channels: Sequence[str] | None = None
) -> Domain:
    """Read one Decathlon-style folder and check all that its files' headers tell, and the values of its labels.

    Args:
        folder: with a ``dataset.json``.
        need_spacing: whether a volume without a valid spacing is an error.
        in_channels: of the network.
        trained_channels: see :func:`channel_names`.

    Raises:
        FileNotFoundError: if the folder, its ``dataset.json``, an image or a label does not exist.
        ValueError: if the folder's name holds a dot, ``dataset.json`` is not valid or lists a case twice, fewer than
            two volumes have labels, an image has not the channels of the network, or a label does not lie on its image
            or holds a value that is no class.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; a domain is a folder in Medical Segmentation Decathlon layout."
        )
    if "." in folder.name:
        raise ValueError(f"{folder} has a dot in its name, which parameter names cannot hold; rename the folder.")
    listed = read_segmentations(path)
    if (count := len(listed.entries)) < 2:
        raise ValueError(f"{path} lists {count} training volumes; at least 2 are needed, one to validate on.")
    entries = [replace(entry, images=find_images(path, listed, entry, in_channels)) for entry in listed.entries]
    check_listed_once(path, entries)
    headers = [_read_header(path, entry, need_spacing) for entry in entries]
    voxels = class_voxels(path, entries, len(listed.classes))
    cases = tuple(
        Case(name_case(entry), entry.images, entry.label, header, number)
        for entry, header, number in zip(entries, headers, voxels, strict=True)
    )
    warn_of_copies(case.image for case in cases)
    warn_of_copies(case.label for case in cases if any(number for value, number in case.voxels.items() if value > 0))
    channel = _channel(path, listed.channel, cases, in_channels)
    names = channel_names(listed.channel_names, in_channels, channel, path, trained_channels)
    return Domain(folder.name, listed.classes, channel, names, cases)


def _find_domains(dataset_dir: Path, names: str | Sequence[str] | None) -> list[Path]:
    if not dataset_dir.is_dir():
        raise FileNotFoundError(f"dataset_dir is {dataset_dir}, which is not a folder; give the folder of the domains.")
    if (dataset_dir / "dataset.json").is_file():
        dataset_dir = dataset_dir.resolve()
        folders = {dataset_dir.name: dataset_dir}
    else:
        folders = {folder.name: folder for folder in sorted(dataset_dir.glob("[!.]*")) if folder.is_dir()}
    if names is None:
        for name, folder in list(folders.items()):
            if not (folder / "dataset.json").is_file():
                logger.warning("%s has no dataset.json and is skipped.", folder)
                del folders[name]
        if not folders:
            raise ValueError(f"{dataset_dir} holds no domain, a folder with a dataset.json in it.")
        return list(folders.values())
    wanted = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    unknown = [name for name in wanted if name not in folders]
    if unknown or not wanted:
        raise ValueError(
            f"domains: {', '.join(unknown) or 'none'} not in {dataset_dir}; it holds {', '.join(folders)}."
        )
    return [folders[name] for name in sorted(set(wanted))]


def name_case(entry: Entry) -> str:
    """Return the name of a case: that of its image, or of its label where several images are its channels."""
    return case_name(entry.label if len(entry.images) > 1 else entry.image)


def find_images(path: Path, listed: SegmentationList, entry: Entry, in_channels: int) -> tuple[Path, ...]:
    """Return the files of an image: those that are listed, or the numbered ones of its channels beside it.

    Args:
        path: of the ``dataset.json``, for messages.
        listed: what it says.
        entry: the case.
        in_channels: that are needed; with 1, the channel that ``dataset.json`` names, or else what is listed.

    Raises:
        ValueError: if a numbered file is missing, or one too many; or an image cannot be read.
    """
    image, *more = entry.images
    alone = in_channels == 1 and listed.channel is None
    if more or (image.exists() and (alone or read_header(image, False).channels > 1)):
        return entry.images
    found = channel_files(image)
    if not found or (image.exists() and listed.images.intersection(found) - {image}):  # cases of numbers, not channels
        return entry.images
    case = split_channel(case_name(image))[0]
    numbers = [split_channel(case_name(file))[1] or 0 for file in found]
    needed = in_channels if in_channels > 1 else max(len(found), (listed.channel or 0) + 1)
    if reason := wrong_channels(case, numbers, needed):
        raise ValueError(f"{path}: {reason}")
    return tuple(found)


def _read_header(path: Path, entry: Entry, need_spacing: bool) -> Header:
    """Return the header of an image whose label lies on it."""
    if not entry.label.is_file():
        raise FileNotFoundError(
            f"{entry.label}, the label of {entry.image}, does not exist; add it or drop the entry in {path}."
        )
    image, label = (open_scan(files, need_spacing=need_spacing) for files in (entry.images, entry.label))
    check_label(image, label, name_case(entry))
    return read_header(entry.images, need_spacing)


def _channel(path: Path, named: int | None, cases: Sequence[Case], in_channels: int) -> int | None:
    """Return the channel that a network of one sees, from ``dataset.json`` or else from the table of 3DSeg-8.

    None if all images have what the network sees.
    """
    other = [case for case in cases if case.header.channels != in_channels]
    if not other:
        if in_channels == 1 and named:
            raise ValueError(
                f"{path} names the channel {named}, but all images have one channel, 0; list those of that channel and "
                "leave 'channel' out."
            )
        return None
    counts = f"{other[0].image} has {_count(other[0].header.channels)}"
    if in_channels > 1:
        raise ValueError(f"{counts}, but in_channels is {in_channels}; give each case as many, or leave it out.")
    known = DOMAINS_3DSEG8.get(path.parent.name)
    if known is None and named is None:
        every = f"train a segmentation on all by --in_channels {other[0].header.channels}"
        raise ValueError(f'{counts}; say which to use, as "channel": N in {path}, or {every}.')
    channel = known.channel if known and named is None else int(named or 0)
    for case in other:
        if channel >= case.header.channels:
            raise ValueError(
                f"{case.image} has {_count(case.header.channels)}, so there is no channel {channel}; see {path}."
            )
    return channel


def _count(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"


def _item(case: Case) -> dict[str, Any]:
    image, *more = (str(path) for path in case.images)
    return {"image": [image, *more] if more else image, "label": str(case.label), "case": case.name}


def _name(case: Case) -> str:
    return case.name
