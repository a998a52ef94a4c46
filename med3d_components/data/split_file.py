"""The file ``split.json`` beside ``model.pt``: the cases that trained and validated, and those of models before.

It names cases with digests of their files::

    {
      "trained_on": ["Task09_Spleen"],
      "training": {"case_1": "IMAGE.LABEL", ...},
      "validation": {"case_2": "IMAGE.LABEL", ...},
      "ancestors": {"Task03_Liver": {"case_7": "IMAGE.LABEL", ...}}
    }

With several domains a case is ``Domain/case``. Ancestors are the training cases of the models that the training started
from, by data set.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["FILE", "PARTS", "Digests", "Split", "inherit", "read_split", "split_of", "without_names"]

logger = logging.getLogger(__name__)

Digests = Mapping[str, str]
"""Case to its digest."""
Split = Mapping[str, Any]
"""Content of ``split.json``."""

FILE = "split.json"
PARTS = ("training", "validation")


def read_split(path: Path) -> dict[str, Any] | None:
    """Return the content of a ``split.json``, None if there is none.

    Raises:
        ValueError: if it is damaged.

    Example:
        >>> read_split(Path("models/split.json")) is None
        True
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if (split := _checked(content)) is None:
        raise ValueError(f"{path} is damaged; restore it, it belongs to model.pt beside it.")
    return split


def inherit(splits: Iterable[Split]) -> dict[str, dict[str, str]]:
    """Return the ancestors of a training that starts from models: what these were trained on, and their ancestors.

    Cases of one name that are not equal are kept side by side.

    Args:
        splits: of the models.

    Example:
        >>> split = {"trained_on": ["a"], "training": {"1": "0a.ff"}, "validation": {}, "ancestors": {"b": {"1": "0b"}}}
        >>> inherit([split])
        {'b': {'1': '0b'}, 'a': {'1': '0a.ff'}}
    """
    merged: dict[str, dict[str, str]] = {}
    for split in splits:
        for name, cases in [*split["ancestors"].items(), *_by_data_set(split)]:
            _add_cases(merged.setdefault(name, {}), cases)
    return merged


def split_of(source: str) -> dict[str, Any] | None:
    """Return the split of a weight file: an entry of it, or a file beside it or in the run's ``models/``."""
    path = Path(source.partition(":")[2] if source.startswith(("kinetics:", "genesis:")) else source).expanduser()
    if not path.is_file():
        return None
    content: Any = {}
    for mapped in (True, False):  # what an old torch has written cannot be mapped
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            break
        except Exception:  # no file of torch, or damaged: what loads the weights says so
            continue
    if isinstance(content, Mapping) and (split := _checked(content.get("split"))) is not None:
        return split
    for file in (path.with_name(FILE), path.parent.parent / "models" / FILE):
        if (split := read_split(file)) is not None:
            return split
    settings = content.get("settings") if isinstance(content, Mapping) else None
    if isinstance(settings, Mapping) and "bundle" in settings:
        logger.warning("%s does not say which cases it was trained on, and no split.json lies beside it.", path)
    return None


def without_names(split: Split) -> dict[str, Any]:
    """Return a split whose cases are called by their digests, to leave the house with weights.

    Names of data sets stay.

    Example:
        >>> split = {"trained_on": ["a"], "training": {"Smith": "3f"}, "ancestors": {"lungs": {"Jones": "71"}}}
        >>> without_names(split)
        {'trained_on': ['a'], 'training': {'3f': '3f'}, 'ancestors': {'lungs': {'71': '71'}}}
    """
    domains = split.get("trained_on", ())

    def anonymous(cases: Digests) -> dict[str, str]:
        prefixes = {case: case.partition("/")[0] + "/" if "/" in case else "" for case in cases}
        return {
            (prefixes[case] if prefixes[case].removesuffix("/") in domains else "") + digest: digest
            for case, digest in cases.items()
        }

    return {
        name: {each: anonymous(cases) for each, cases in value.items()}
        if name == "ancestors"
        else anonymous(value)
        if name in PARTS
        else value
        for name, value in split.items()
        if name in ("trained_on", "ancestors", *PARTS)
    }


def _checked(content: Any) -> dict[str, Any] | None:
    """Return a split that holds what it must, None for anything else."""

    def are_cases(value: Any) -> bool:
        return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)

    if not isinstance(content, dict) or not all(are_cases(content.get(part)) for part in PARTS):
        return None
    split = {"trained_on": [], "ancestors": {}, **content}
    names, ancestors = split["trained_on"], split["ancestors"]
    valid = isinstance(names, list) and all(isinstance(name, str) for name in names) and isinstance(ancestors, dict)
    return split if valid and all(are_cases(cases) for cases in ancestors.values()) else None


def _by_data_set(split: Split) -> list[tuple[str, dict[str, str]]]:
    """Return the training cases of each of the data sets of a split."""
    names, training = split["trained_on"], split["training"]
    if names and all(case.partition("/")[0] in names and "/" in case for case in training):
        return [
            (name, {case.removeprefix(f"{name}/"): x for case, x in training.items() if case.startswith(f"{name}/")})
            for name in names
        ]
    return [(", ".join(names), dict(training))]


def _add_cases(cases: dict[str, str], more: Digests) -> None:
    """Add cases to others; one of the same name and other content gets a number.

    Example:
        >>> cases = {"1": "0a"}
        >>> _add_cases(cases, {"1": "0b", "2": "0c"})
        >>> cases
        {'1': '0a', '1 (2)': '0b', '2': '0c'}
    """
    for case, digest in more.items():
        name, number = case, 1
        while cases.get(name, digest) != digest:
            number += 1
            name = f"{case} ({number})"
        cases[name] = digest
