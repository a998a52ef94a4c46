"""How many voxels each class has in the labels of a training set, told by its import or counted once and kept."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from med3d_components.data.dataset_json import Entry
from med3d_components.data.kept import file_state, recall
from med3d_components.data.labels import check_values, count_voxels
from med3d_components.utils.files import file_digest
from med3d_components.utils.machine import default_workers

__all__ = ["Voxels", "check_foreground", "class_voxels"]

logger = logging.getLogger(__name__)

Voxels = Mapping[int, int]
"""Value of a label to its number of voxels; those of value 0 may be left out."""
KEPT = ".voxels.json"
"""File in the folder of a training set that holds what was counted, so that the next training need not."""


def class_voxels(path: Path, entries: Sequence[Entry], num_classes: int) -> list[Voxels]:
    """Return the voxels per class of each label, and check that these are classes.

    They are those that an earlier call has found in the same file, by size and times of change; or those that an import
    has written into ``dataset.json``, if the label has the checksum that stands there, too; else the label is counted.

    Args:
        path: of the ``dataset.json``; what is counted is kept beside it, if the folder can be written.
        entries: whose labels are meant.
        num_classes: number of classes, background included.

    Raises:
        ValueError: if a label holds a value that is no class, or cannot be read.

    Example:
        >>> path = Path("3DSeg-8/Task09_Spleen/dataset.json")
        >>> class_voxels(path, [Entry((Path(),), path.parent / "labelsTr/case_0.nii.gz")], num_classes=2)
        [{0: 12440, 1: 1000}]
    """
    states = [f"{file_state(path.parent, [entry.label])} {num_classes}" for entry in entries]

    def find(new: Mapping[str, Entry]) -> dict[str, Voxels]:
        found = {
            state: entry.voxels for state, entry in new.items() if entry.voxels is not None and _is_imported(entry)
        }
        uncounted = {state: entry.label for state, entry in new.items() if state not in found}
        counted = _count([*uncounted.values()], num_classes) if uncounted else []
        return found | dict(zip(uncounted, counted, strict=True))

    kept = recall(path.with_name(KEPT), dict(zip(states, entries, strict=True)), find, _parse)
    for state, entry in zip(states, entries, strict=True):
        check_values(np.array([*kept[state]] or [0]), num_classes, entry.label)
    return [kept[state] for state in states]


def check_foreground(
    name: str, classes: Sequence[str], training: Iterable[Voxels], validation: Iterable[Voxels]
) -> None:
    """Refuse labels without foreground, and warn where none validates or a class has no voxel.

    Args:
        name: of the training set, for the message.
        classes: names, background first.
        training: voxels per class of each training label.
        validation: the same for validation.

    Raises:
        ValueError: if no training label has a voxel of any class.
    """
    trained, validated = (_sum(labels) for labels in (training, validation))
    if not trained:
        wanted = " or ".join(classes[1:])
        raise ValueError(f"No training label of {name} has a voxel of {wanted}; give labels that outline something.")
    if not validated:
        logger.warning(
            "No validation label of %s has a voxel of any class: nothing can be scored, and the last weights are kept; "
            "take another --split_seed or a larger --val_fraction.",
            name,
        )
    without = [repr(classes[value]) for value in range(1, len(classes)) if not (trained + validated)[value]]
    if without:
        logger.warning("No label of %s has a voxel of %s, which dataset.json declares.", name, ", ".join(without))


def _sum(labels: Iterable[Voxels]) -> Counter[int]:
    """Return the voxels of each class that has any, without the background."""
    total: Counter[int] = Counter()
    for label in labels:
        total.update(label)
    return Counter({value: number for value, number in total.items() if value > 0 and number > 0})


def _count(labels: Sequence[Path], num_classes: int) -> list[Voxels]:
    logger.info("The voxels of %d labels are counted, once.", len(labels))
    count = partial(count_voxels, num_classes=num_classes)
    with ThreadPoolExecutor(default_workers()) as pool:
        # `disable=None`: no bar unless a person looks.
        return list(tqdm(pool.map(count, labels), desc="labels", total=len(labels), unit="file", disable=None))


def _is_imported(entry: Entry) -> bool:
    """Tell whether a label is as its import has written it."""
    return entry.label_digest is not None and file_digest(entry.label) == entry.label_digest


def _parse(content: Any) -> Voxels:
    return {int(value): int(n) for value, n in content.items()}
