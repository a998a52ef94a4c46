"""Write files so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["atomic_path", "file_digest", "is_nan", "move_aside", "remove_leftovers", "write_json", "write_table"]

WRITING = ".writing-"
"""How the folders begin in which files are written before they are moved to their places."""
BLOCK = 1 << 20
"""Bytes that are read at a time of a file of any size."""
ABANDONED_S = 86400
"""Age at which what a process was writing is taken to be of one that was killed, where several may write."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` and move it there when the block ends without an error.

    Folders are created as needed; the temporary name keeps the ending of ``path``, since writers look at it.

    Example:
        >>> with atomic_path("metrics.csv") as temporary:
        ...     temporary.write_text("epoch,train_loss")
        16
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=WRITING, dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


def remove_leftovers(folder: str | os.PathLike[str], age_s: float = 0) -> None:
    """Remove what killed processes left of :func:`atomic_path` directly in a folder.

    Args:
        folder: in which nobody else writes; or, with ``age_s``, any number of processes.
        age_s: least time since the last change, in seconds; 0 for whatever there is.

    Example:
        >>> Path(".writing-a1b2").mkdir()
        >>> remove_leftovers(".")
        >>> Path(".writing-a1b2").exists()
        False
    """
    for path in Path(folder).glob(f"{WRITING}*"):
        with suppress(OSError):  # another process was first
            if path.is_dir() and (age_s == 0 or time.time() - path.stat().st_mtime > age_s):
                shutil.rmtree(path)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_table(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> None:
    """Write rows as CSV, atomically; NaN and missing values stay empty.

    Args:
        path: to write.
        rows: one mapping per row.
        first: columns to begin with; the others follow as they come, those with a slash in their name last.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [*first, *sorted((name for name in names if name not in first), key=lambda name: name.count("/"))]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({key: "" if is_nan(value) else value for key, value in row.items()} for row in rows)


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal digits.

    Example:
        >>> file_digest("ct.nii.gz") == file_digest("3DSeg-8/Task09_Spleen/dataset.json")
        False
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def is_nan(value: Any) -> bool:
    """Tell whether a value of any type is the number NaN."""
    return isinstance(value, float) and math.isnan(value)


def move_aside(paths: Iterable[Path], attic: Path) -> Path | None:
    """Move what exists of ``paths`` into a new numbered folder of ``attic``, so that nothing is overwritten.

    Returns:
        The folder, or None if there was nothing to move.
    """
    existing = [path for path in paths if path.exists()]
    if not existing:
        return None
    attic.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(folder.name) for folder in attic.iterdir() if folder.name.isdigit()), default=0)
    folder = attic / str(number)
    folder.mkdir()
    for path in existing:
        path.rename(folder / path.name)
    return folder
