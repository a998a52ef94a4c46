"""Folds that a user has: the file ``splits_final.json`` of nnU-Net.

It is a list with one entry for each fold, which names the cases that train and those that validate::

    [{"train": ["case_1", "case_2"], "val": ["case_3"]}, ...]
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from med3d_components.data.case_sets import some_names
from med3d_components.data.scan import Place

__all__ = ["count_folds", "read_fold"]

logger = logging.getLogger(__name__)

PARTS = ("train", "val")


def count_folds(path: Place) -> int:
    """Return the number of folds that a file has.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none of folds.

    Example:
        >>> _ = Path("splits_final.json").write_text('[{"train": ["a", "b"], "val": ["c"]}]')
        >>> count_folds("splits_final.json")
        1
    """
    return len(_read(Path(path)))


def read_fold(path: Place, fold: int, cases: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return what to train and what to validate on in a fold; which cases are in neither is logged.

    Args:
        path: of the file.
        fold: from 0.
        cases: what cases may be called in the file, to their names; a case may be called in several ways.

    Returns:
        Names of the training and of the validation cases, each once.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none of folds, has no such fold, names a case that there is not or one in both parts, or
            none in one of them.

    Example:
        >>> _ = Path("splits_final.json").write_text('[{"train": ["a", "b"], "val": ["c"]}]')
        >>> read_fold("splits_final.json", 0, {"a": "a_0000", "b": "b_0000", "c": "c_0000"})
        (['a_0000', 'b_0000'], ['c_0000'])
    """
    path = Path(path)
    content = _read(path)
    if not (isinstance(fold, int) and 0 <= fold < len(content)):
        raise ValueError(f"fold is {fold!r}, but {path} has {len(content)}, counted from 0.")
    where = f"{path}, fold {fold}"
    if unknown := [name for part in PARTS for name in content[fold][part] if name not in cases]:
        raise ValueError(f"{where} names {some_names(unknown)} that the data do not have; they have {_some(cases)}.")
    training, validation = (list(dict.fromkeys(cases[name] for name in content[fold][part])) for part in PARTS)
    if both := [name for name in validation if name in set(training)]:
        raise ValueError(f"{where} both trains and validates on {some_names(both)}; leave each in one of the lists.")
    if not (training and validation):
        raise ValueError(f"{where} has no case to {'train' if validation else 'validate'} on; name one at least.")
    if others := sorted(set(cases.values()).difference(training, validation)):
        logger.warning("%s: in neither list, and left out: %s.", where, some_names(others))
    return training, validation


def _read(path: Path) -> list[dict[str, list[str]]]:
    """Return the folds of a file."""
    if not path.is_file():
        raise FileNotFoundError(f"split_file is {path}, which is no file; name a splits_final.json as of nnU-Net.")
    try:
        content: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not (isinstance(content, list) and content and all(map(_is_fold, content))):
        raise ValueError(
            f'{path} must be a list of folds, [{{"train": ["case_1", ...], "val": ["case_2", ...]}}, ...], as the '
            "splits_final.json of nnU-Net is."
        )
    return content


def _is_fold(fold: Any) -> bool:
    return isinstance(fold, dict) and all(
        isinstance(fold.get(part), list) and all(isinstance(name, str) for name in fold[part]) for part in PARTS
    )


def _some(cases: Mapping[str, str]) -> str:
    return some_names(sorted(set(cases.values())))
