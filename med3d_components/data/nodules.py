"""Nodules with a malignancy score as lists of training and validation items.

A folder of nodules has a ``dataset.json``: ``{"name": ..., "nodules": [...]}``. A nodule is a mapping with

- "image": path, relative to the json, of a NIfTI, NRRD or MetaImage file or of a folder with a DICOM series,
- "malignancy": a score from 1 (highly unlikely) to 5 (highly suspicious), or the list of several readers' scores,
- "center_mm" (optional): its place in the image, in mm along RAS; without, the image is a cube and used whole,
- "mask" (optional): path of a volume that is above 0 where the nodule is,
- "patient" (optional): an id; without, every image counts as a patient of its own,
- "spacing" (optional): in mm along the axes of the file, where its header has none,
- "set" (optional): "training" or "validation", for a split of your own.

An optional entry may be null.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.data.digests import case_digest, place_digests, text_digest
from med3d_components.data.folders import list_images
from med3d_components.data.model_split import ModelSplit, SplitList
from med3d_components.data.scan import case_name
from med3d_components.data.splits import draw_fold, draw_patients
from med3d_components.data.volumes import open_scan
from med3d_components.utils.checks import is_number

__all__ = ["NoduleDatalist", "list_nodules", "nodule_volume"]

logger = logging.getLogger(__name__)

CLASSES = ("benign", "malignant")
READERS: dict[str, Callable[[Sequence[float]], Any]] = {"median": np.median, "mean": np.mean, "max": np.max}
SETS = ("training", "validation")


class NoduleDatalist(SplitList):
    """Training and validation items of a folder of nodules, benign or malignant.

    Med3D, section 4.3, takes scores of 1 to 3 as benign and 4 and 5 as malignant, which is the default; it does not
    say how the readers' scores are merged. Many others drop the nodules in the middle.

    The split is by patient. Patients with a malignant nodule and those without are dealt to the folds separately, in
    the order of a hash of seed and patient, so it depends neither on the order of the nodules nor on file names.

    Args:
        dataset_dir: folder with a ``dataset.json``, as described at the top of this module.
        threshold: nodules scored below are benign, those above malignant.
        at_threshold: what those with this score are: "benign", "malignant" or "drop".
        readers: how several readers' scores are merged: "median", "mean" or "max".
        folds: number of folds.
        fold: the one used for validation, from 0.
        seed: of folds and share. Nodules with "set" are split by it, and folds and fold are not used.
        train_share: share of the training patients that is used, at least one for each class.
        model_split: of the model that the run goes on with, scores or starts from; where it says which nodules train
            and validate, none are drawn. In an evaluation, training nodules are those that a baseline is fitted to.

    Attributes:
        name: of the dataset.
        classes: names, the positive one last.
        training: items with "image", "label" (0 or 1), "malignancy" (the merged score), "patient" and "case", and,
            where there are any, "mask", "center_mm" and "spacing".
        validation: the same for validation.
        class_weights: inverse frequency of each class in the training set, with a mean of 1.
        has_masks: whether all nodules have one.

    Raises:
        FileNotFoundError: if the folder, its ``dataset.json``, or an image or mask named there does not exist.
        ValueError: for invalid arguments, entries and images, a patient in both sets, a set without one of the classes.

    Example:
        >>> datalist = NoduleDatalist("LIDC-IDRI", at_threshold="drop")
        >>> datalist.training[1]["label"]
        1
    """

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str],
        threshold: float = 3,
        at_threshold: str = "benign",
        readers: str = "median",
        folds: int = 5,
        fold: int = 0,
        seed: int = 0,
        train_share: float = 1,
        model_split: ModelSplit | None = None,
    ) -> None:
        _check_choice("at_threshold", at_threshold, (*CLASSES, "drop"))
        _check_choice("readers", readers, READERS)
        path = Path(dataset_dir) / "dataset.json"
        self.name, entries = _read_json(path)
        items, listed = [], _items(path, entries)
        for entry, item in zip(entries, listed, strict=True):
            score = _merge(path, item["case"], entry.get("malignancy"), readers)
            taken = at_threshold if score == threshold else CLASSES[score > threshold]
            if taken != "drop":
                items.append({**item, "label": CLASSES.index(taken), "malignancy": score, "set": entry.get("set")})
        logger.info("%s: %d of %d nodules are used.", path, len(items), len(entries))
        if without := sum("patient" not in entry for entry in entries):
            logger.warning("%s: %d nodules name no patient; each image of theirs counts as one.", path, without)
        by_case = {item["case"]: item for item in items}
        texts = {
            item["case"]: json.dumps([entry.get("center_mm"), entry.get("malignancy")])
            for entry, item in zip(entries, listed, strict=True)
        }

        def digest(cases: Iterable[str]) -> dict[str, str]:
            wanted = list(cases)
            images = place_digests(path.parent.resolve(), [by_case[case]["image"] for case in wanted])
            return {case: case_digest([images[by_case[case]["image"]]], text_digest(texts[case])) for case in wanted}

        def draw() -> tuple[list[str], list[str]]:
            if not _are_split(path, entries):
                validating = draw_fold(items, folds, fold, seed)
                for item in items:
                    item["set"] = SETS[item["patient"] in validating]
            training, validation = (_take_set(path, items, name) for name in SETS)
            _check_patients(path, training, validation)
            used = draw_patients(training, train_share, seed)
            return [item["case"] for item in training if item["patient"] in used], [x["case"] for x in validation]

        patients = {item["case"]: item["patient"] for item in items}
        division = self._divide(model_split, [self.name], path.parent, list(by_case), digest, draw, patients)
        self.classes = list(CLASSES)
        self.training, self.validation = (
            [{**_without_set(by_case[case]), **division.mark(case)} for case in cases]
            for cases in (division.training, division.validation)
        )
        counts = np.bincount([item["label"] for item in self.training], minlength=len(CLASSES))
        weights = 1 / np.maximum(counts, 1)
        self.class_weights = [float(weight) for weight in weights / weights.mean()]
        self.has_masks = all("mask" in item for item in self.training + self.validation)


def list_nodules(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """List nodules to classify: of a folder with a ``dataset.json``, or volumes that each are the cube of one.

    Args:
        path: a folder with a ``dataset.json``, in which "malignancy" may be missing; or a volume, or a folder of some.

    Returns:
        Items as those of :class:`NoduleDatalist`, without "label" and "malignancy". The errors are the same, too. What
        should be a volume but is none is an item with "error", see :func:`list_images`.
    """
    listing = Path(path) / "dataset.json"
    if listing.is_file():
        return _items(listing, _read_json(listing)[1])
    return [
        item if "error" in item else _item(listing, {"image": item["image"], "patient": item["case"]}, item["case"])
        for item in list_images(Path(path).absolute())
    ]


def nodule_volume(item: Mapping[str, Any]) -> float:
    """Return the volume in mm3 of an item's "mask", with the item's "spacing" if it has one."""
    mask = open_scan(item["mask"], item.get("spacing"))
    return int(np.count_nonzero(mask.read() > 0)) * float(abs(np.linalg.det(mask.affine[:3, :3])))


def _read_json(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return name and entries of a ``dataset.json``."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; dataset_dir must be a folder with a dataset.json of nodules.")
    content = read_dataset_json(path)
    if "nodules" not in content:
        raise ValueError(f"{path} must have the entry 'nodules', but has {', '.join(content) or 'none'}.")
    entries = content["nodules"]
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: 'nodules' must be a list of at least one nodule, but is {str(entries)[:80]}.")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise ValueError(f"{path}: a nodule must be a mapping with 'image', a path, but one is {str(entry)[:80]}.")
    entries = [{key: value for key, value in entry.items() if value is not None} for entry in entries]
    return str(content.get("name", path.parent.absolute().name)), entries


def _items(path: Path, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return items without label, each with a case name of its own, after a look at the headers of their images."""
    items: dict[str, dict[str, Any]] = {}
    for entry in entries:
        stem = case_name(entry["image"])
        case = next(name for name in chain([stem], (f"{stem}_{i}" for i in count(2))) if name not in items)
        items[case] = _item(path, entry, case)
    return list(items.values())


def _item(path: Path, entry: Mapping[str, Any], case: str) -> dict[str, Any]:
    image = path.parent / entry["image"]
    item: dict[str, Any] = {"image": str(image), "patient": str(entry.get("patient", entry["image"])), "case": case}
    for key in ("center_mm", "spacing"):
        if key in entry:
            item[key] = _triple(path, case, key, entry[key])
    scan = open_scan(image, item.get("spacing"))
    scan.check_one_channel()
    if "center_mm" in item:
        scan.check_inside(item["center_mm"])
    if "mask" in entry:
        mask = path.parent / entry["mask"]
        if not mask.exists():
            raise FileNotFoundError(f"{mask}, the mask of {case}, does not exist; add it or drop the entry in {path}.")
        item["mask"] = str(mask)
    return item


def _triple(path: Path, case: str, key: str, values: Any) -> list[float]:
    valid = isinstance(values, list) and len(values) == 3 and all(is_number(value) for value in values)
    if not valid or (key == "spacing" and min(values) <= 0):
        wanted = "three lengths above 0 in mm" if key == "spacing" else "three coordinates in mm"
        raise ValueError(f"{path}: {key} of {case} is {values}, but must be {wanted}.")
    return [float(value) for value in values]


def _merge(path: Path, case: str, scores: Any, readers: str) -> float:
    """Return one score of all readers."""
    several = scores if isinstance(scores, list) else [scores]
    if not several or not all(is_number(score) and 1 <= score <= 5 for score in several):
        raise ValueError(f"{path}: malignancy of {case} is {scores}, but must be one score from 1 to 5 or a list.")
    return float(READERS[readers](several))


def _check_choice(name: str, value: Any, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(choices)}.")


def _are_split(path: Path, entries: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether the nodules name their sets."""
    named = sum("set" in entry for entry in entries)
    if 0 < named < len(entries):
        raise ValueError(f"{path}: {named} of {len(entries)} nodules have 'set'; give it to all of them or to none.")
    for entry in entries:
        if named and entry["set"] not in SETS:
            raise ValueError(f"{path}: a nodule's 'set' is {entry['set']!r}, but must be one of {', '.join(SETS)}.")
    return named > 0


def _take_set(path: Path, items: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the items of a set, which must have both classes, without naming it."""
    chosen = [_without_set(item) for item in items if item["set"] == name]
    malignant = sum(item["label"] for item in chosen)
    if not 0 < malignant < len(chosen):
        raise ValueError(
            f"{path}: the {name} set has {len(chosen) - malignant} benign and {malignant} malignant nodules, but needs "
            "both; use fewer folds, another fold, seed or threshold, or more nodules."
        )
    return chosen


def _without_set(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "set"}


def _check_patients(path: Path, training: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]]) -> None:
    both = sorted({item["patient"] for item in training} & {item["patient"] for item in validation})
    if both:
        raise ValueError(f"{path}: patient {', '.join(both[:5])} is in both sets; put all nodules of a patient in one.")
