"""Write a folder of nodules, and later write it anew, unless somebody has changed it in between."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.utils import write_json
from med3d_components.utils.files import file_digest

__all__ = ["check_untouched", "has_provenance", "replace_folder", "write_listing"]

_LISTING = "dataset.json"
_WRITTEN = "written"
_NAMED = 5  # series of each kind that are named

_log = logging.getLogger(__name__)


def write_listing(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a ``dataset.json`` beside the masks that it lists, with checksums of its nodules and of each mask.

    Args:
        folder: that holds the masks.
        content: with "nodules", each with a "mask", and "provenance".
    """
    written = {_LISTING: _content_digest(content)}
    written.update({nodule["mask"]: file_digest(folder / nodule["mask"]) for nodule in content["nodules"]})
    write_json(folder / _LISTING, {**content, "provenance": {**content["provenance"], _WRITTEN: written}})


def has_provenance(folder: Path, provenance: Mapping[str, Any]) -> bool:
    """Tell whether the folder was written from the same sources."""
    return provenance.items() <= _read(folder).get("provenance", {}).items()


def check_untouched(folder: Path, source: str) -> None:
    """Check that what is in the folder may be replaced.

    Args:
        folder: to write.
        source: as "provenance" has it.

    Raises:
        FileExistsError: if it is not empty and has no ``dataset.json`` of ``write_listing``, one from another source,
            or one that was changed since, itself or a mask.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    content = _read(folder)
    provenance = content.get("provenance", {})
    if _WRITTEN not in provenance:
        raise FileExistsError(f"{folder} already holds other data; move it away or choose another folder.")
    if provenance.get("source") != source:
        raise FileExistsError(f"{folder} was imported from {provenance.get('source')}; choose another folder.")
    for name, checksum in provenance[_WRITTEN].items():
        file = folder / name
        if not file.is_file() or (_content_digest(content) if name == _LISTING else file_digest(file)) != checksum:
            raise FileExistsError(
                f"{file} was changed or deleted since it was imported, and its source has changed as well; move "
                f"{folder} away or choose another folder."
            )


def replace_folder(folder: Path, new: Path) -> None:
    """Put a new folder of ``write_listing`` in the place of one that :func:`check_untouched` has passed.

    Files in the old folder that no import has written come along. What became of its nodules is told as a warning.

    Raises:
        FileExistsError: if such a file has the name of a new one.
    """
    before, after = _read(folder), _read(new)
    old = new.with_name(f"{new.name}.old")
    _take_along(folder, new, before)
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    if before:
        _log.warning("%s", _describe(folder, before["nodules"], after["nodules"]))


def _read(folder: Path) -> dict[str, Any]:
    """Read a ``dataset.json``; empty if there is none with nodules and provenance."""
    try:
        content = read_dataset_json(folder / _LISTING)
    except (FileNotFoundError, ValueError):
        return {}
    known = isinstance(content.get("nodules"), list) and isinstance(content.get("provenance"), dict)
    return content if known else {}


def _content_digest(content: Mapping[str, Any]) -> str:
    """Return the checksum of a listing but for its provenance."""
    listed = {key: value for key, value in content.items() if key != "provenance"}
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def _take_along(folder: Path, new: Path, before: Mapping[str, Any]) -> None:
    """Copy files of others from the old folder to the new one."""
    written = before.get("provenance", {}).get(_WRITTEN, {})
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        if name.as_posix() in written or (file.is_dir() and not file.is_symlink()):
            continue
        if (new / name).exists():
            raise FileExistsError(f"{file} has the name of a mask that the import would write; move it away.")
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, new / name, follow_symlinks=False)


def _describe(folder: Path, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> str:
    """Say in one line in which series the nodules have changed."""
    old, new = _by_image(before), _by_image(after)
    kinds = {
        "changed": [image for image in new if image in old and old[image] != new[image]],
        "new": [image for image in new if image not in old],
        "no longer with a source": [image for image in old if image not in new],
    }
    changes = [f"{len(some)} series {kind} ({', '.join(some[:_NAMED])})" for kind, some in kinds.items() if some]
    return f"{folder} was written anew, since its source has changed: {'; '.join(changes) or 'the same nodules'}."


def _by_image(nodules: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    images = defaultdict(list)
    for nodule in nodules:
        images[nodule["image"]].append((nodule["center_mm"], nodule["malignancy"]))
    return images
