"""One labelled dataset: what its ``dataset.json`` lists, read and checked before anything is trained with it.

A domain is a folder with a ``dataset.json`` in the layout of the Medical Segmentation Decathlon; its name is the
folder's name. All that headers show is found in seconds for thousands of volumes; of labels, the voxels of each class
are counted, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from med3d_components.data.channels import channel_names, split_channel, wrong_channels
from med3d_components.data.class_voxels import Voxels, class_voxels
from med3d_components.data.dataset_json import Entry, SegmentationList, read_segmentations
from med3d_components.data.digests import case_digests
from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.data.duplicates import check_listed_once, warn_of_copies
from med3d_components.data.folders import channel_files
from med3d_components.data.labels import check_label
from med3d_components.data.listed_folds import read_fold
from med3d_components.data.scan import Place, case_name
from med3d_components.data.splits import deal_fold, draw_key, draw_split, take_share
from med3d_components.data.volumes import Header, open_scan, read_header

__all__ = ["Case", "Domain", "find_images", "name_case", "read_domain"]


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

    @property
    def has_spacing(self) -> bool:
        """Whether the image's header has a valid one."""
        return not np.isnan(self.header.spacing).any()


@dataclass(frozen=True)
class Domain:
    """One labelled dataset: its folder and name, class names (background first), channel of a 4-D image, and cases.

    ``channel`` is None where the network sees all channels, whose names are ``channel_names``.
    """

    folder: Path
    name: str
    classes: tuple[str, ...]
    channel: int | None
    channel_names: tuple[str, ...]
    cases: tuple[Case, ...]

    def draw(
        self,
        val_fraction: float,
        seed: int,
        train_share: float = 1,
        folds: int | None = None,
        fold: int = 0,
        split_file: Place | None = None,
    ) -> tuple[list[str], list[str]]:
        """Draw training and validation cases, by name.

        A case is drawn by the hash of seed, domain and case name, so the split depends neither on the order of the
        files nor on the other domains. With a fraction of 1 every case is in both. Of the training cases a share is
        used, at least one case; it is part of any larger share, and the validation cases stay the same.

        Args:
            val_fraction: share of the cases that validates.
            seed: of the draw.
            train_share: of the training cases.
            folds: cases are dealt to so many folds, one of which validates, in the place of ``val_fraction``.
            fold: which one, from 0; of ``folds`` or of ``split_file``.
            split_file: names the cases of each fold in the place of a draw, see :func:`read_fold`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: for both folds and a file, a fold of neither, and what these refuse.
        """
        drawn = sorted((case.name for case in self.cases), key=lambda name: draw_key(seed, self.name, name))
        if split_file is not None:
            if folds is not None:
                raise ValueError(
                    f"folds is {folds} and split_file is {split_file}, but only one of them can say which cases "
                    "validate; leave the other out."
                )
            # nnU-Net calls a case by its label, whose image may be CASE_0000.
            known = {case_name(case.label): case.name for case in self.cases}
            training, validation = read_fold(split_file, fold, {**known, **{name: name for name in drawn}})
            training = [name for name in drawn if name in set(training)]
        elif folds is not None:
            training, validation = deal_fold(drawn, folds, fold)
        elif fold:
            raise ValueError(f"fold is {fold}, but there are no folds; say how many by --folds, or give --split_file.")
        else:
            training, validation = draw_split(drawn, val_fraction)
        return sorted(take_share(training, train_share)), sorted(validation)

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the digests of cases, by name."""
        wanted = set(names)
        return case_digests(self.folder, {c.name: (c.images, c.label) for c in self.cases if c.name in wanted})


def read_domain(
    folder: Path,
    need_spacing: bool = True,
    in_channels: int = 1,
    trained_channels: Sequence[str] | None = None,
    least: int = 2,
) -> Domain:
    """Read one Decathlon-style folder and check all that its files' headers tell, and the values of its labels.

    Args:
        folder: with a ``dataset.json``.
        need_spacing: whether a volume without a valid spacing is an error.
        in_channels: of the network.
        trained_channels: see :func:`channel_names`.
        least: number of cases; to train and to validate takes two.

    Raises:
        FileNotFoundError: if the folder, its ``dataset.json``, an image or a label does not exist.
        ValueError: if the folder's name holds a dot, ``dataset.json`` is not valid or lists a case twice, too
            few volumes have labels, an image has not the channels of the network, or a label does not lie on its image
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
    if (count := len(listed.entries)) < least:
        needed = "at least 2 are needed, one to validate on" if least > 1 else "at least 1 is needed"
        raise ValueError(f"{path} lists {count} training volumes; {needed}.")
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
    return Domain(folder, folder.name, listed.classes, channel, names, cases)


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
