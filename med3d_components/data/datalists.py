"""Folders of volumes as lists of training and validation items; those of nodules are in ``nodules.py``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from med3d_components.data.class_voxels import check_foreground
from med3d_components.data.digests import case_digests
from med3d_components.data.folders import list_scans
from med3d_components.data.labelled import Case, Domain, read_domain
from med3d_components.data.model_split import Division, ModelSplit, SplitList
from med3d_components.data.plausible import label_volumes
from med3d_components.data.splits import draw_key, draw_split
from med3d_components.utils import as_flag

__all__ = ["ImageDatalist", "MultiDomainDatalist", "SegmentationDatalist"]

logger = logging.getLogger(__name__)

AVERAGES: dict[str, Callable[..., Any]] = {"median": np.median, "mean": np.mean}


class _Datalist(SplitList):
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
            training and validation: to over-fit on purpose.
        seed: of the split.
        patch_size: upper limit, in voxels, of the regions that training crops.
        output_stride: of the network's encoder along each axis; regions are multiples of it, which it maps exactly.
        average: of the training images' spacings, "median" or "mean" (Med3D takes the mean for LiTS).
        need_spacing: whether an image without a valid spacing is an error; otherwise it is left out of the average,
            with a warning, and :class:`EnsureSpacingd` gives it the average.
        merge_classes: whether every class counts as the first one, as the tumours of LiTS do as liver.
        train_share: share of the training cases that is used, at least one case; spacing and roi_size are theirs.
        folds: the cases are dealt to so many folds, one of which validates; None for ``val_fraction``.
        fold: the one that validates, from 0, of ``folds`` or ``split_file``.
        split_file: names the cases of each fold, as nnU-Net's ``splits_final.json`` does; None to draw.
        default_classes: with them the folder need not exist; there is nothing but these classes then.
        in_channels: of the network. With several, images have as many: on their fourth axis, or each in a file, which
            ``dataset.json`` lists or which are called ``CASE_0000``, ``CASE_0001`` and so on.
        trained_channels: names of the channels that the weights know, see :func:`channel_names`.
        model_split: of the model that the run goes on with, scores or starts from; where it says which cases train and
            validate, none are drawn. In an evaluation, training cases are those that baselines are fitted to.

    Attributes:
        name: of the folder.
        classes: names, background first; two if they are merged.
        label_values: number of values in the label files.
        merged: whether classes are merged.
        channel: that a network of one channel sees of images with several, None if all have what it sees.
        channel_names: of the channels that the network sees, see :func:`channel_names`.
        training: items ``{"image", "label", "case"}``; of several files, "image" is a list. In an evaluation they have
            a "set", see :class:`Division`.
        validation: the same for validation.
        split: which cases train and validate, by their digests, see :mod:`med3d_components.data.model_split`.
        spacing: average spacing in mm of the training images (Med3D, section 3.1), axes as in RAS.
        roi_size: that training crops, in voxels at that spacing: the largest training volume, rounded up to a multiple
            of the encoder's output stride, within ``patch_size``.
        volumes_ml: class to its least and its largest volume in the training labels, see :func:`label_volumes`.

    Raises:
        FileNotFoundError: if the folder, a file named in its ``dataset.json``, or ``split_file`` does not exist.
        ValueError: for invalid folders and headers, labels that do not lie on their image or hold other values,
            training labels without foreground, and folds that there are not; the message names the file.

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
        output_stride: Sequence[int] = (8, 8, 8),
        average: str = "median",
        need_spacing: bool = True,
        merge_classes: bool | str = False,
        train_share: float = 1,
        folds: int | None = None,
        fold: int = 0,
        split_file: str | os.PathLike[str] | None = None,
        default_classes: Sequence[str] | None = None,
        in_channels: int = 1,
        trained_channels: Sequence[str] | None = None,
        model_split: ModelSplit | None = None,
    ) -> None:
        if average not in AVERAGES:
            raise ValueError(f"average is {average!r}, but must be one of {', '.join(AVERAGES)}.")
        self.dataset_dir = dataset_dir
        if default_classes is not None and not Path(dataset_dir).exists():
            self.classes = list(default_classes)
            return
        least = _least(model_split)
        domain = read_domain(Path(dataset_dir).resolve(), need_spacing, in_channels, trained_channels, least)
        division = self._divide(
            model_split,
            [domain.name],
            domain.folder,
            [case.name for case in domain.cases],
            domain.digests,
            lambda: domain.draw(val_fraction, seed, train_share, folds, fold, split_file),
        )
        self.name = domain.name
        self.merged = as_flag("merge_classes", merge_classes)
        self.label_values = len(domain.classes)
        self.classes = list(domain.classes[:2] if self.merged else domain.classes)
        self.channel, self.channel_names = domain.channel, list(domain.channel_names)
        part = _measure(domain, division, self.classes, patch_size, output_stride, average)
        self.training, self.validation = part.training, part.validation
        self.spacing, self.roi_size, self.volumes_ml = part.spacing, part.roi_size, part.volumes_ml


class MultiDomainDatalist(_Datalist):
    """Training and validation items of all domains below a folder: a :class:`SegmentationDatalist` of each.

    Args:
        dataset_dir: folder that holds one sub-folder per domain, or is one domain itself.
        domains: names of the domains to use: a list, one name, or names joined by commas; None for all.
        val_fraction: share of each domain's cases used for validation, at least one case.
        seed: of the split.
        patch_size: upper limit, in voxels, of the regions that training crops.
        output_stride: of the network's encoder along each axis; regions are multiples of it, which it maps exactly.
        default_classes: of each domain; with them the folder need not exist, and there is nothing but these then.
        model_split: as of :class:`SegmentationDatalist`.

    Attributes:
        domains: names, sorted.
        training: items ``{"image", "label", "case", "domain"}`` of all domains.
        validation: the same for validation.
        split: as of :class:`SegmentationDatalist`; a case is called ``DOMAIN/CASE``.
        classes, channel, spacing, roi_size, volumes_ml: domain name to what :class:`SegmentationDatalist` says of it.

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
        output_stride: Sequence[int] = (8, 8, 8),
        default_classes: Mapping[str, Sequence[str]] | None = None,
        model_split: ModelSplit | None = None,
    ) -> None:
        self.dataset_dir = dataset_dir
        if default_classes is not None and not Path(dataset_dir).exists():
            self.classes = {name: list(classes) for name, classes in default_classes.items()}
            return
        least = _least(model_split)
        found = {folder.name: read_domain(folder, least=least) for folder in _find_domains(Path(dataset_dir), domains)}

        def digest(cases: Iterable[str]) -> dict[str, str]:
            wanted = set(cases)
            return {
                f"{name}/{case}": digest
                for name, domain in found.items()
                for case, digest in domain.digests(
                    case.name for case in domain.cases if f"{name}/{case.name}" in wanted
                ).items()
            }

        def draw() -> tuple[list[str], list[str]]:
            drawn = {name: domain.draw(val_fraction, seed) for name, domain in found.items()}
            training, validation = (
                [f"{name}/{case}" for name, parts in drawn.items() for case in parts[index]] for index in range(2)
            )
            return training, validation

        cases = [f"{name}/{case.name}" for name, domain in found.items() for case in domain.cases]
        division = self._divide(model_split, list(found), dataset_dir, cases, digest, draw)
        self.domains = list(found)
        self.classes = {name: list(domain.classes) for name, domain in found.items()}
        parts = {
            name: _measure(domain, division, self.classes[name], patch_size, output_stride, prefix=f"{name}/")
            for name, domain in found.items()
        }
        self.training = [{**item, "domain": name} for name, part in parts.items() for item in part.training]
        self.validation = [{**item, "domain": name} for name, part in parts.items() for item in part.validation]
        self.channel = {name: domain.channel for name, domain in found.items()}
        self.spacing = {name: part.spacing for name, part in parts.items()}
        self.roi_size = {name: part.roi_size for name, part in parts.items()}
        self.volumes_ml = {name: part.volumes_ml for name, part in parts.items()}


class ImageDatalist(SplitList):
    """Training and validation items of a folder of volumes, whose labels, if there are any, are not looked at.

    Args:
        dataset_dir: folder of NIfTI, NRRD or MetaImage files and of DICOM series at any depth, see
            :func:`list_scans`; or a folder in the layout of the Medical Segmentation Decathlon, of which ``imagesTr``
            is taken.
        val_fraction: share of the volumes used for validation, at least one; with 1 all are used for both.
        draws: how often each training volume is listed, to draw so many times from it in an epoch.
        seed: of the split, which depends on it and the volumes' names alone.
        model_split: as of :class:`SegmentationDatalist`.

    Attributes:
        name: of the folder.
        training: items ``{"image", "case"}``, with "set" in an evaluation.
        validation: the same for validation.
        split: as of :class:`SegmentationDatalist`; digests are those of images.

    Raises:
        FileNotFoundError: if the folder does not exist or holds no volume.
        ValueError: if it holds one volume alone, a DICOM folder is no single complete series, or two volumes have one
            name.

    Example:
        >>> list(ImageDatalist("LUNA16").split["validation"])
        ['scan_6']
    """

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str],
        val_fraction: float = 0.1,
        draws: int = 1,
        seed: int = 0,
        model_split: ModelSplit | None = None,
    ) -> None:
        folder = Path(dataset_dir).resolve()
        found = list_scans(folder / "imagesTr" if (folder / "dataset.json").is_file() else folder)
        for note in found.notes:
            logger.warning("%s", note)
        if found.failures:
            raise ValueError(" ".join(dict.fromkeys(found.failures.values())))
        if len(found.scans) < _least(model_split):
            raise ValueError(f"{folder} holds one volume; at least 2 are needed, one to validate on.")
        self.name = folder.name

        def digest(cases: Iterable[str]) -> dict[str, str]:
            return case_digests(folder, {case: ([found.scans[case]], None) for case in cases})

        def draw() -> tuple[list[str], list[str]]:
            drawn = sorted(found.scans, key=lambda case: draw_key(seed, self.name, case))
            training, validation = draw_split(drawn, val_fraction)
            return sorted(training), sorted(validation)

        division = self._divide(model_split, [self.name], folder, sorted(found.scans), digest, draw)
        training, self.validation = (
            [{"image": found.scans[case], "case": case, **division.mark(case)} for case in names]
            for names in (division.training, division.validation)
        )
        self.training = training * draws


@dataclass(frozen=True)
class _Part:
    """What a domain's training cases tell, and its items."""

    training: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    spacing: list[float]
    roi_size: list[int]
    volumes_ml: dict[str, list[float]]


def _measure(
    domain: Domain,
    division: Division,
    classes: Sequence[str],
    patch_size: Sequence[int],
    output_stride: Sequence[int],
    average: str = "median",
    prefix: str = "",
) -> _Part:
    """Check the cases of a domain that train and validate, and measure those that train.

    Where none is left, in an evaluation, those that are scored are measured; nobody asks then.
    """
    cases = {f"{prefix}{case.name}": case for case in domain.cases}
    training, validation = (
        [name for name in names if name in cases] for names in (division.training, division.validation)
    )
    evaluating = bool(division.sets)
    if not evaluating:
        voxels = [[cases[name].voxels for name in names] for names in (training, validation)]
        check_foreground(domain.name, domain.classes, *voxels)
    measured = [cases[name] for name in training or (*validation, *cases)]
    spacings, sizes = (np.array([getattr(case.header, name) for case in measured]) for name in ("spacing", "size"))
    known = ~np.isnan(spacings).any(axis=1)
    if not known.any() and not evaluating:
        raise ValueError(f"No training image of {domain.name} has a valid spacing; repair the headers of some.")
    for case in dict.fromkeys(cases[name].image for name in training + validation if not cases[name].has_spacing):
        logger.warning("%s has no valid spacing and gets the %s of the others.", case, average)
    volumes = label_volumes([case.voxels for case in measured], spacings.prod(axis=1) / 1000, classes)
    spacing = AVERAGES[average](spacings[known], axis=0) if known.any() else np.ones(3)
    sizes = sizes * np.where(known[:, None], spacings, spacing) / spacing
    multiple = np.array(output_stride)
    roi_size = np.minimum(multiple * np.ceil(sizes.round().max(axis=0) / multiple), patch_size)
    return _Part(
        [{**_item(cases[name]), **division.mark(name)} for name in training],
        [{**_item(cases[name]), **division.mark(name)} for name in validation],
        [float(value) for value in spacing],
        [int(value) for value in roi_size],
        volumes,
    )


def _least(model_split: ModelSplit | None) -> int:
    """Return how many cases there must be."""
    return 1 if model_split is not None and model_split.evaluating else 2


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


def _item(case: Case) -> dict[str, Any]:
    image, *more = (str(path) for path in case.images)
    return {"image": [image, *more] if more else image, "label": str(case.label), "case": case.name}
