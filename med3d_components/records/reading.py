"""Read run.json as what it is, data from outside."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["FORMAT", "RECORD", "read_record"]

RECORD = "run.json"
"""Its name, beside model.pt."""
FORMAT = 1
"""Of the file; another one is refused."""

PARTS: Mapping[str, type | tuple[type, ...]] = {
    "status": str,
    "bundle": dict,
    "run_id": str,
    "configs": dict,
    "changed": list,
    "options": dict,
    "given": list,
    "data": dict,
    "weights": list,
    "parts": list,
    "best": dict,
    "scores": list,
    "files": dict,
}
INNER: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "bundle": {"name": str, "version": str},
    "data": {"sets": list, "training": int, "validation": int, "listing": str},
    "best": {"metric": str, "score": (int, float, type(None)), "epoch": int},
}
EACH: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "weights": {"option": str, "source": str, "sha256": (str, type(None)), "record": (dict, type(None))},
    "parts": {"environment": dict, "precision": dict, "status": str, "started": str},
    "scores": {"epoch": int},
}
SETS = {"name": str, "licence": (str, type(None)), "dataset_json": (str, type(None))}


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the record of a training.

    Args:
        path: of ``run.json``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or not a record of this version; the message names the file.

    Example:
        >>> Path("run.json").write_text('{"format": 1}')
        13
        >>> read_record("run.json")
        Traceback (most recent call last):
        ...
        ValueError: run.json is damaged ('status' is missing); a new training writes it anew.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name the run.json of a training, beside its model.pt.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); a new training writes it anew.") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"{path} is no record of a training that this version can read.")
    try:
        _check(record, PARTS)
        for name, inner in INNER.items():
            _check(record[name], inner, f"{name}.")
        for name, inner in EACH.items():
            for one in record[name]:
                _check(one, inner, f"{name}.")
        for one in record["data"]["sets"]:
            _check(one, SETS, "data.sets.")
        if not record["parts"]:
            raise ValueError("'parts' is empty")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); a new training writes it anew.") from None
    return record


def _check(content: Any, kinds: Mapping[str, Any], prefix: str = "") -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{prefix.rstrip('.')!r} is no object")
    for name, kind in kinds.items():
        if name not in content:
            raise ValueError(f"'{prefix}{name}' is missing")
        if not isinstance(content[name], kind):
            raise ValueError(f"'{prefix}{name}' is {str(content[name])[:40]!r}")
