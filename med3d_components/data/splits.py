"""Draw cases and patients by a hash of their names: the same ones everywhere, whatever the order of the files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from med3d_components.utils.checks import is_number

__all__ = ["deal_fold", "draw_fold", "draw_key", "draw_patients", "draw_split", "take_share"]

T = TypeVar("T")


def draw_key(*parts: object) -> bytes:
    """Return a key whose order looks random, but depends on the parts alone.

    Example:
        >>> sorted(["case_1", "case_2", "case_3"], key=lambda name: draw_key(0, "Task09_Spleen", name))
        ['case_2', 'case_3', 'case_1']
    """
    return hashlib.sha256("/".join(map(str, parts)).encode()).digest()


def take_share(drawn: Sequence[T], train_share: float) -> list[T]:
    """Return the first of what was drawn, at least one; what a smaller share takes, a larger one takes as well.

    Args:
        drawn: in an order that depends neither on the share nor on the files, such as that of :func:`draw_key`.
        train_share: above 0 and at most 1.

    Raises:
        ValueError: for another share.

    Example:
        >>> take_share(["a", "b", "c", "d"], 0.5)
        ['a', 'b']
    """
    if not (is_number(train_share) and 0 < train_share <= 1):
        raise ValueError(f"train_share is {train_share!r}, but must be a number above 0 and at most 1.")
    return list(drawn[: max(1, round(train_share * len(drawn)))])


def draw_split(drawn: Sequence[T], val_fraction: float) -> tuple[list[T], list[T]]:
    """Return what to train and what to validate on, at least one of each.

    Args:
        drawn: two or more, in an order such as that of :func:`draw_key`.
        val_fraction: share to validate on; with 1 all are in both.

    Example:
        >>> draw_split(["a", "b", "c"], val_fraction=0.1)
        (['b', 'c'], ['a'])
    """
    if val_fraction == 1:
        return list(drawn), list(drawn)
    count = min(max(1, round(val_fraction * len(drawn))), len(drawn) - 1)
    return list(drawn[count:]), list(drawn[:count])


def deal_fold(drawn: Sequence[T], folds: int, fold: int) -> tuple[list[T], list[T]]:
    """Return what to train and what to validate on in one of several folds: each case validates in one of them.

    Args:
        drawn: in an order such as that of :func:`draw_key`; at least as many as there are folds.
        folds: number of folds.
        fold: from 0.

    Raises:
        ValueError: if there is no such fold, or one would be empty.

    Example:
        >>> deal_fold(["a", "b", "c", "d", "e"], folds=2, fold=1)
        (['a', 'c', 'e'], ['b', 'd'])
    """
    _check_fold(folds, fold)
    if folds > len(drawn):
        raise ValueError(f"folds is {folds}, but there are {len(drawn)} cases; give at most {len(drawn)}.")
    return [case for index, case in enumerate(drawn) if index % folds != fold], list(drawn[fold::folds])


def draw_fold(items: Sequence[Mapping[str, Any]], folds: int, fold: int, seed: int) -> set[str]:
    """Return the patients of a fold; every fold gets its share of those with a nodule of class 1.

    Args:
        items: with "patient" and "label", 0 or 1.
        folds: number of folds.
        fold: from 0.
        seed: of the folds.

    Raises:
        ValueError: if there is no such fold.
    """
    _check_fold(folds, fold)
    positive = {item["patient"] for item in items if item["label"]}
    patients = {item["patient"] for item in items}
    # Those without a nodule of class 1 come last and are dealt on from where the others ended, so folds are even.
    drawn = sorted(patients, key=lambda patient: (patient not in positive, draw_key(seed, patient)))
    return set(drawn[fold::folds])


def draw_patients(items: Sequence[Mapping[str, Any]], train_share: float, seed: int) -> set[str]:
    """Return a share of the patients of each label, so that there is at least one for each.

    Args:
        items: with "patient" and "label".
        train_share: as in :func:`take_share`.
        seed: of the draw.
    """
    labels = {item["label"] for item in items}
    groups = [{item["patient"] for item in items if item["label"] == label} for label in labels]
    drawn = [sorted(group, key=lambda patient: draw_key(seed, patient)) for group in groups]
    return {patient for group in drawn for patient in take_share(group, train_share)}


def _check_fold(folds: Any, fold: Any) -> None:
    if not (isinstance(folds, int) and isinstance(fold, int) and 0 <= fold < folds and folds >= 2):
        raise ValueError(f"fold is {fold!r} of {folds!r} folds, but must be from 0 to folds - 1, and folds 2 or more.")
