"""Prepared volumes kept on disk, so that later epochs and later trainings do not prepare them again.

MONAI's ``PersistentDataset`` raises an error on an entry that was cut off, never deletes one, moves its files from
another file system, where a reader can see half of one, and knows an item by its path and a transform by its class
alone; so of MONAI only the parts of ``Compose`` and ``reset_ops_id`` are used here.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.transforms import Compose, RandomizableTrait, Transform
from monai.transforms.utils import reset_ops_id

import med3d_components
from med3d_components.utils.files import ABANDONED_S, atomic_path, remove_leftovers

__all__ = ["CachedTransform"]

logger = logging.getLogger(__name__)

SUFFIX = ".prepared"
WORD = np.dtype("<u8")
HEADERS = (".mhd", ".nhdr", ".hdr", ".img")
STATE = ("filenames", "_tracing")
"""Attributes of MONAI's transforms and readers that no result depends on, and that change when they are used."""

HARMLESS = [
    np.ndarray,
    np.dtype,
    np.zeros(1).__reduce__()[0],
    np.float64(0).__reduce__()[0],
    *{type(np.dtype(code)) for code in np.typecodes["All"]},
    *(kind for kind in vars(monai.utils.enums).values() if isinstance(kind, type) and issubclass(kind, Enum)),
]
"""What volumes hold beside tensors: numpy's arrays and numbers, whose parts each version names anew, and MONAI's names.

``torch.load`` makes nothing of a file but tensors, built-in types and these.
"""


class CachedTransform:
    """Apply a chain of transforms, whose results up to the first random one are kept on disk.

    An entry is known by the item, the path, size and time of change of each file it names (of a folder, of every file
    in it), the settings of the transforms, and the versions of this package, MONAI and PyTorch; whatever of these
    changes, the item is prepared anew. Entries are written to a temporary file and moved into place, so any number of
    processes may share a folder; if two prepare an item at once, both write the same. An entry is checked by its
    checksum and replaced, with a warning, if it is damaged. Reading maps the file into memory.

    If a new entry would exceed the limit, those that were not read for the longest time are deleted first. The entries
    of a training must fit, or they push each other out before they are read again. Each process that writes at that
    moment may exceed the limit by an entry. What cannot be written, on a full disk say, is prepared each time.

    Args:
        transform: the whole chain.
        folder: for the entries; made if it does not exist. Other files in it are left alone.
        limit_gb: of the entries in it, in GB (10^9 bytes).

    Raises:
        ValueError: for a limit that is not positive, and for a transform that holds a function without a name, since
            nothing tells whether it has changed.

    Example:
        >>> from monai.transforms import LoadImaged, RandFlipd
        >>> chain = Compose([LoadImaged("image"), RandFlipd("image")])
        >>> cached = CachedTransform(chain, "cache", limit_gb=10)
        >>> cached({"image": "ct.nii.gz"})["image"].shape
        torch.Size([64, 64, 64])
    """

    def __init__(self, transform: Compose, folder: str | os.PathLike[str], limit_gb: float) -> None:
        if not limit_gb > 0:
            raise ValueError(f"cache_gb is {limit_gb}, but must be a positive number of GB.")
        self.transform = transform
        self.folder = Path(folder).absolute()
        self.limit = int(limit_gb * 1e9)
        first_random = transform.get_index_of_first(_is_random)
        self.end = len(transform.transforms) if first_random is None else first_random
        versions = [med3d_components.__version__, monai.__version__, torch.__version__]
        self.settings = _describe([versions, list(transform.transforms[: self.end])])

    def __call__(self, item: Mapping[str, Any]) -> Any:
        """Return the item transformed."""
        path = self.folder / (self.key(item) + SUFFIX)
        prepared = self._read(path)
        if prepared is None:
            prepared = self.transform(dict(item), end=self.end)
            reset_ops_id(prepared)  # numbers of this run's transforms, by which Invertd would miss its own
            self._write(path, prepared)
        return self.transform(prepared, start=self.end)

    def key(self, item: Mapping[str, Any]) -> str:
        """Return what an item's entry is known by."""
        files = [state for value in item.values() for state in _states(value)]
        return hashlib.sha256("\n".join([self.settings, _describe(item), *files]).encode()).hexdigest()

    def _read(self, path: Path) -> Any:
        """Return an entry, None if there is none or it is damaged."""
        try:
            _check(path)
            with torch.serialization.safe_globals(HARMLESS):
                prepared = torch.load(path, weights_only=True, mmap=True)
        except FileNotFoundError:
            return None
        except Exception as error:
            logger.warning("%s is damaged and made anew (%.200s).", path, " ".join(str(error).split()))
            return None
        with suppress(OSError):  # a folder that may only be read
            os.utime(path)
        return prepared

    def _write(self, path: Path, prepared: Any) -> None:
        try:
            with atomic_path(path) as temporary:
                torch.save(_compact(prepared), temporary)
                _seal(temporary)
                self._make_room(path, temporary.stat().st_size)
        except OSError as error:
            logger.warning("%s is not kept: %s", path, error)

    def _make_room(self, path: Path, needed: int) -> None:
        """Delete the entries that were not read for the longest time until the limit leaves room for a new one."""
        if needed > self.limit:
            raise OSError(f"it has {needed / 1e9:.3g} GB, more than cache_gb, {self.limit / 1e9:.3g} GB.")
        remove_leftovers(self.folder, ABANDONED_S)
        entries = sorted(entry for entry in _entries(self.folder) if entry[2] != path)
        total = needed + sum(size for _, size, _ in entries)
        for _, size, entry in entries:
            if total <= self.limit:
                return
            with suppress(OSError):  # another process was first, or Windows holds a file that is mapped
                entry.unlink()
                total -= size


def _is_random(transform: Any) -> bool:
    return isinstance(transform, RandomizableTrait) or not isinstance(transform, Transform)


def _entries(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Yield time of last use, size and path of each entry."""
    for path in folder.glob("*" + SUFFIX):
        with suppress(FileNotFoundError):  # deleted by another process
            found = path.stat()
            yield found.st_mtime_ns, found.st_size, path


def _seal(path: Path) -> None:
    """Append the sum of a file's 64-bit words, where torch.load does not mind it.

    ``torch.load`` does not look at the checksums of the zip that it reads, and those take longer than all the rest.
    """
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(bytes(-file.tell() % WORD.itemsize))
        file.flush()
        words = np.memmap(path, WORD, "r")
        file.write(words.sum(dtype=WORD).tobytes())


def _check(path: Path) -> None:
    """Raise an OSError or a ValueError if a file is not as it was sealed."""
    words = np.memmap(path, WORD, "r")
    if words[:-1].sum(dtype=WORD) != words[-1]:
        raise ValueError("its content does not have its checksum")


def _states(value: Any) -> Iterator[str]:
    """Yield path, size and time of change of the files that an entry of an item names."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _states(part)
    if not isinstance(value, str | os.PathLike):
        return
    path = Path(value).absolute()
    if not path.exists() and "::" in str(path):  # one of several DICOM series below a folder
        path = Path(str(path).rpartition("::")[0])
    if not path.exists():
        return
    # The voxels of some formats lie in files beside their header.
    beside = path.parent.glob(f"{path.stem}.*") if path.suffix.lower() in HEADERS else ()
    for file in sorted({path, *path.rglob("*"), *beside}):
        found = file.stat()
        yield f"{file} {found.st_size} {found.st_mtime_ns}"


def _describe(value: Any) -> str:
    """Return settings as text that is the same in every process."""
    return json.dumps(value, default=_parts, sort_keys=True)


def _parts(value: Any) -> Any:
    """Return what an object that JSON does not know is made of."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return [str(value.dtype), np.asarray(value).tolist()]
    if isinstance(value, set | frozenset):
        return sorted(value)
    if callable(value) and hasattr(value, "__qualname__"):
        if "<" in value.__qualname__:
            raise ValueError(
                f"A transform holds the function {value.__qualname__}, whose changes a cache would not notice; "
                "leave cache_dir out, or put the transform after the first random one."
            )
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "__dict__"):
        return [_parts(type(value)), {name: part for name, part in vars(value).items() if name not in STATE}]
    return str(value)


def _compact(value: Any) -> Any:
    """Return an item whose tensors take no more memory than their voxels, since torch.save writes all of it."""
    if isinstance(value, Mapping):
        return {key: _compact(part) for key, part in value.items()}
    if isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() > value.nbytes:
        return value.clone()
    return value
