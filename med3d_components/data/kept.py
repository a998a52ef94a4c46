"""Facts that cost a reading of whole files, found once and kept in a hidden file beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from med3d_components.utils.files import ABANDONED_S, remove_leftovers, write_json

__all__ = ["file_state", "recall"]

Thing = TypeVar("Thing")
Fact = TypeVar("Fact")


def file_state(folder: Path, files: Sequence[Path]) -> str:
    """Return what a fact about files is kept under: it is another one if any of them changes.

    Args:
        folder: that the fact is kept in.
        files: one, or the many of a DICOM series.
    """
    states = []
    for file in files:
        found = file.stat()
        name = file.relative_to(folder) if file.is_relative_to(folder) else file
        # A copy may keep the time of its content, but not that of the file.
        states.append(f"{name.as_posix()} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}")
    if len(states) == 1:
        return states[0]
    return f"{len(states)} files {hashlib.sha256(chr(10).join(states).encode()).hexdigest()}"


def recall(
    path: Path,
    things: Mapping[str, Thing],
    find: Callable[[dict[str, Thing]], Mapping[str, Fact]],
    parse: Callable[[Any], Fact],
) -> dict[str, Fact]:
    """Return the facts of things: those that are kept, and the others as they are found now.

    Args:
        path: of the file that keeps them, as JSON; it is written if the folder can be, and made anew if it is damaged.
        things: by their states, see :func:`file_state`.
        find: returns the facts of things, by their states.
        parse: makes a fact of what JSON gives; it raises TypeError, ValueError or AttributeError for anything else.

    Example:
        >>> state = file_state(Path(), [Path("ct.nii.gz")])
        >>> def size(things):
        ...     return {state: file.stat().st_size for state, file in things.items()}
        >>> kept = recall(Path(".sizes.json"), {state: Path("ct.nii.gz")}, size, int)
        >>> recall(Path(".sizes.json"), {state: Path("ct.nii.gz")}, None, int) == kept
        True
    """
    kept = _read(path, parse)
    new = {state: thing for state, thing in things.items() if state not in kept}
    if new:
        kept |= find(new)
        with suppress(OSError):  # a folder that may only be read
            remove_leftovers(path.parent, ABANDONED_S)
            write_json(path, kept)
    return {state: kept[state] for state in things}


def _read(path: Path, parse: Callable[[Any], Fact]) -> dict[str, Fact]:
    """Return what was kept, nothing if it is damaged."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return {str(state): parse(fact) for state, fact in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
