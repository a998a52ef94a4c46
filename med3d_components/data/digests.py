"""What the cases of a data set hold, as digests of their files: they tell a case again under any name."""

from __future__ import annotations

import gzip
import hashlib
import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from tqdm import tqdm

from med3d_components.data.dicom import read_series
from med3d_components.data.kept import file_state, recall
from med3d_components.data.scan import Place
from med3d_components.utils.files import BLOCK, file_digest
from med3d_components.utils.machine import default_workers

__all__ = ["case_digest", "case_digests", "image_digests", "place_digests", "text_digest"]

logger = logging.getLogger(__name__)

KEPT = ".digests.json"
"""File in the folder of a data set that holds the digests, so that the next run need not read all files again."""
GZIP = b"\x1f\x8b"
"""What each gzip file begins with, whatever its name."""
DIGITS = 16
"""Hexadecimal digits of a SHA-256 that are kept, 64 bits: two of a million cases agree by chance once in 10^7 sets."""


def place_digests(folder: Path, places: Iterable[Place]) -> dict[str, str]:
    """Return the digest of all bytes of each volume: of its file, or of all files of a DICOM series in any order.

    The bytes of a gzip file are those that it unpacks to, so that a volume that is packed anew stays the same. Files
    are read once, in threads; the digests are kept in the folder by size and times of change.

    Args:
        folder: of the data set, which keeps them.
        places: files, and folders of DICOM series.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a folder is no DICOM series.

    Example:
        >>> place_digests(Path("LUNA16"), ["LUNA16/scan_0.nii.gz"])  # doctest: +ELLIPSIS
        {'LUNA16/scan_0.nii.gz': '...'}
    """
    files = {str(place): _files(place) for place in places}
    states = {place: file_state(folder, each) for place, each in files.items()}
    # The first process of a node reads the files, the others what it has kept.
    with idist.one_rank_first(local=True):
        found = recall(folder / KEPT, {states[place]: each for place, each in files.items()}, _read, str)
    return {place: found[state] for place, state in states.items()}


def case_digests(folder: Path, cases: Mapping[str, tuple[Sequence[Place], Place | None]]) -> dict[str, str]:
    """Return the digests of cases.

    Args:
        folder: of the data set.
        cases: name to images, and to label, if there is one.
    """
    places = [place for images, label in cases.values() for place in (*images, *([] if label is None else [label]))]
    found = place_digests(folder, places)
    return {
        case: case_digest([found[str(image)] for image in images], found[str(label)] if label else "")
        for case, (images, label) in cases.items()
    }


def case_digest(images: Sequence[str], label: str = "") -> str:
    """Return the digest of a case, ``IMAGE.LABEL``, of those of its files; several images are joined by ``+``.

    Example:
        >>> case_digest(["0a", "0b"], "ff"), case_digest(["0a"])
        ('0a+0b.ff', '0a')
    """
    return "+".join(images) + (f".{label}" if label else "")


def image_digests(digest: str) -> frozenset[str]:
    """Return the digests of a case's images.

    Example:
        >>> sorted(image_digests("0a+0b.ff"))
        ['0a', '0b']
    """
    return frozenset(digest.partition(".")[0].split("+"))


def text_digest(text: str) -> str:
    """Return the digest of what a list, not a file, says of a case."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _files(place: Place) -> list[Path]:
    path = Path(place)
    if not path.is_file():
        return list(read_series(place).files)
    if path.suffix.lower() != ".mhd":
        return [path]
    data = [path.with_suffix(suffix) for suffix in (".raw", ".zraw")]
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    data += [path.parent / line.partition("=")[2].strip() for line in lines if line.startswith("ElementDataFile")]
    return [path, *dict.fromkeys(file for file in data if file.is_file())]


def _read(places: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    total = sum(file.stat().st_size for files in places.values() for file in files)
    logger.info("The content of %d volumes is read for digests, once: %.1f GB.", len(places), total / 1e9)

    def digest(files: Sequence[Path]) -> str:
        one, *others = sorted(map(_content_digest, files))
        return text_digest("".join([one, *others])) if others else one[:DIGITS]

    with ThreadPoolExecutor(default_workers()) as pool:
        # `disable=None`: no bar unless a person looks.
        bar: Any = tqdm(pool.map(digest, places.values()), "digests", len(places), unit="volume", disable=None)
        return dict(zip(places, bar, strict=True))


def _content_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of what a gzip file unpacks to."""
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    if packed:
        digest = hashlib.sha256()
        with suppress(gzip.BadGzipFile, EOFError, zlib.error), gzip.open(path) as unpacked:
            while block := unpacked.read(BLOCK):
                digest.update(block)
            return digest.hexdigest()
    # Also of a file that cannot be unpacked: whoever reads the volume says so.
    return file_digest(path)
