"""Cases that a training set has twice: one that trains and validates says nothing of others."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import normalize

from med3d_components.data.dataset_json import Entry
from med3d_components.data.scan import case_name
from med3d_components.utils.files import file_digest

__all__ = ["check_listed_once", "find_copies", "warn_of_copies"]

logger = logging.getLogger(__name__)

PROBE = 2**16
"""Bytes at the start, in the middle and at the end of files of one size that are compared before all are."""


def check_listed_once(path: Path, entries: Sequence[Entry]) -> None:
    """Refuse a list that names a file or a case twice, in whatever spelling.

    Args:
        path: of the ``dataset.json``, for the message.
        entries: its cases.

    Raises:
        ValueError: naming what is there twice.

    Example:
        >>> twice = [Entry((Path("a.nii"),), Path("l/a.nii")), Entry((Path("b/../a.nii"),), Path("l/b.nii"))]
        >>> check_listed_once(Path("dataset.json"), twice)
        Traceback (most recent call last):
        ...
        ValueError: dataset.json lists a.nii twice, as b/../a.nii too; drop one entry.
    """
    files: dict[str, Path] = {}
    resolve = cache(Path.resolve)
    for file in [file for entry in entries for file in (*entry.images, entry.label)]:
        # Not a file's own link: git-annex links all files of equal content, such as empty labels, to one.
        real = normalize("NFC", str(resolve(file.parent) / file.name))
        if real in files:
            too = f", as {file} too" if file != files[real] else ""
            raise ValueError(f"{path} lists {files[real]} twice{too}; drop one entry.")
        files[real] = file
    images: dict[str, Path] = {}
    for entry in entries:
        name = normalize("NFC", case_name(entry.image))
        if name in images:
            raise ValueError(f"{path} lists {images[name]} and {entry.image}, which are both case {name}; rename one.")
        images[name] = entry.image


def warn_of_copies(files: Iterable[Path]) -> None:
    """Warn of files that have equal contents under several names, see :func:`find_copies`."""
    for first, second, *others in find_copies(files):
        more = f" (and {len(others)} more)" if others else ""
        logger.warning("%s and %s%s have the same content; is a case there twice?", first, second, more)


def find_copies(files: Iterable[Path]) -> list[list[Path]]:
    """Return the groups of files that have equal contents; folders are left out.

    Sizes are compared first, then three pieces, so that hardly a file is read.

    Args:
        files: of any size.

    Example:
        >>> for name in ("a.nii", "b.nii", "c.nii"):
        ...     _ = Path(name).write_text("c" if name == "c.nii" else "a")
        >>> find_copies([Path("a.nii"), Path("b.nii"), Path("c.nii")])
        [[PosixPath('a.nii'), PosixPath('b.nii')]]
    """
    groups = [[file for file in files if file.is_file()]]
    steps: tuple[Callable[[Path], Hashable], ...] = (lambda file: file.stat().st_size, _probe, file_digest)
    for key in steps:
        groups = [alike for group in groups for alike in _split(group, key)]
    return groups


def _split(files: Iterable[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Return the files of equal keys, two or more each."""
    alike: dict[Any, list[Path]] = defaultdict(list)
    for file in files:
        alike[key(file)].append(file)
    return [group for group in alike.values() if len(group) > 1]


def _probe(path: Path) -> bytes:
    size, pieces = path.stat().st_size, []
    with path.open("rb") as file:
        for place in (0, size // 2, max(0, size - PROBE)):
            file.seek(place)
            pieces.append(file.read(PROBE))
    return hashlib.sha256(b"".join(pieces)).digest()
