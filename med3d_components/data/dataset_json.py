"""Reading ``dataset.json``, the list of a folder's cases, in any encoding, with one line for any other content.

That of segmentations has the layout of the Medical Segmentation Decathlon::

    {
      "labels": {"0": "background", "1": "liver"},
      "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz", "voxels": {"1": 52044}}, ...],
      "channel": 0
    }

"voxels", the number of voxels of each class, and "written", the checksums of the files that it holds for, are written
by an import and may be missing; so may "channel", which says which one of several to use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unicodedata import normalize

__all__ = ["Entry", "SegmentationList", "check_classes", "path_on_disk", "read_dataset_json", "read_segmentations"]

COLUMNS = ("case", "domain", "epoch", "train_loss", "val_mean_dice")
"""What the tables of a training call other things; a class of such a name would take the place of its column."""
SHOWN = 80
"""Characters of a wrong entry that a message repeats."""


@dataclass(frozen=True)
class Entry:
    """One case of a ``dataset.json``: its files, and what its import knew.

    ``voxels`` are those of each class but 0, in the label whose SHA-256 is ``label_digest``.
    """

    images: tuple[Path, ...]
    label: Path
    voxels: Mapping[int, int] | None = None
    label_digest: str | None = None

    @property
    def image(self) -> Path:
        """The first image, by which messages call the case; several are its channels."""
        return self.images[0]


@dataclass(frozen=True)
class SegmentationList:
    """What a ``dataset.json`` of segmentations says: class names, background first, the channel to use, and cases.

    ``channel_names`` is what it calls the channels, unchecked, see :func:`channel_names`.
    """

    classes: tuple[str, ...]
    channel: int | None
    entries: tuple[Entry, ...]
    channel_names: Any = None

    @cached_property
    def images(self) -> frozenset[Path]:
        """The images of all cases."""
        return frozenset(image for entry in self.entries for image in entry.images)


def read_dataset_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a ``dataset.json`` of any kind.

    Args:
        path: of the file, in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is in another encoding, no JSON, no object, or names something twice; the message names it.

    Example:
        >>> read_dataset_json("3DSeg-8/Task09_Spleen/dataset.json")["labels"]
        {'0': 'background', '1': 'class 1'}
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        content = json.loads(Path(path).read_bytes(), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start} is none of {error.encoding.upper()}"
        raise ValueError(f"{path} is no text in Unicode ({wrong}); save it as UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be JSON ({str(error).rstrip('.')}); mend or replace it.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object, {{...}}, but is {_short(content)}.")
    return content


def read_segmentations(path: str | os.PathLike[str]) -> SegmentationList:
    """Read and check a ``dataset.json`` of segmentations; whether its files exist is not looked at.

    Args:
        path: of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or "labels", "training" or "channel" are not as described at the top of this
            module; the message names the file.

    Example:
        >>> spleens = read_segmentations("3DSeg-8/Task09_Spleen/dataset.json")
        >>> spleens.classes, len(spleens.entries)
        (('background', 'class 1'), 4)
    """
    path = Path(path)
    content = read_dataset_json(path)
    for name in ("labels", "training"):
        if name not in content:
            raise ValueError(f"{path} must have the entries 'labels' and 'training', but has no {name!r}.")
    classes = _classes(path, content["labels"])
    channel = content.get("channel")
    if "channel" in content and (not isinstance(channel, int) or isinstance(channel, bool) or channel < 0):
        raise ValueError(f"{path}: 'channel' must be a whole number, 0 or more, but is {_short(channel)}.")
    training = content["training"]
    if not isinstance(training, list):
        raise ValueError(f"{path}: 'training' must be a list of cases, but is {_short(training)}.")
    names = content.get("channel_names", content.get("modality"))
    return SegmentationList(classes, channel, tuple(_entry(path, entry) for entry in training), names)


def check_classes(classes: Sequence[str], source: object) -> None:
    """Refuse names that the tables of a training could not tell apart.

    Args:
        classes: names, background first.
        source: where they are from, for the message.

    Raises:
        ValueError: for two classes of one name, or one that is called as a column of the tables.

    Example:
        >>> check_classes(["background", "case"], "--classes")
        Traceback (most recent call last):
        ...
        ValueError: --classes: a class is called 'case', as a column of the tables is; rename it.
    """
    names = [normalize("NFC", name).strip() for name in classes]
    for name in names:
        if not name:
            raise ValueError(f"{source}: a class has no name.")
        if names.count(name) > 1:
            raise ValueError(f"{source}: two classes are called {name!r}; rename one.")
        if name.lower() in COLUMNS:
            raise ValueError(f"{source}: a class is called {name!r}, as a column of the tables is; rename it.")


def path_on_disk(path: Path) -> Path:
    r"""Return a path as the disk spells it, where the two differ in Unicode's form alone.

    macOS and some archives write an umlaut as two characters (NFD), most editors as one (NFC).

    Args:
        path: that may not exist; it is returned as it is if nothing on disk is called so.

    Example:
        >>> Path("Mu\u0308ller.nii").touch()
        >>> path_on_disk(Path("M\u00fcller.nii")).exists()
        True
    """
    if os.path.exists(path) or path.parent == path:
        return path
    folder, name = path_on_disk(path.parent), normalize("NFC", path.name)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return folder / next((other for other in names if normalize("NFC", other) == name), path.name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, of which Python would keep the last of two entries of one name."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return content


def _classes(path: Path, labels: Any) -> tuple[str, ...]:
    if not isinstance(labels, dict) or set(labels) != {str(value) for value in range(len(labels))}:
        raise ValueError(
            f"{path}: 'labels' must map '0', '1', ... to class names without a gap, but is {_short(labels)}."
        )
    if len(labels) < 2:
        raise ValueError(f"{path}: 'labels' must name the background and at least one class, but is {labels}.")
    classes = tuple(labels[str(value)] for value in range(len(labels)))
    for name in classes:
        if not isinstance(name, str):
            raise ValueError(f"{path}: 'labels' must map to names, but one is {_short(name)}.")
    check_classes(classes, path)
    return classes


def _entry(path: Path, entry: Any) -> Entry:
    image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (None, None)
    images = image if isinstance(image, list) else [image]
    if not (images and all(map(_is_path, images)) and _is_path(label)):
        raise ValueError(
            f"{path}: a training entry must have 'image' and 'label', each the path of a file, but one is "
            f"{_short(entry)}; 'image' may be a list of one for each channel."
        )
    files = tuple(path_on_disk(path.parent / name) for name in map(str, images))
    written = entry.get("written")
    digest = written.get("label") if isinstance(written, dict) else None
    return Entry(files, path_on_disk(path.parent / str(label)), _voxels(entry.get("voxels")), digest)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _voxels(voxels: Any) -> dict[int, int] | None:
    """Return voxels per class, None for what an import would not write: they are counted then."""
    if not isinstance(voxels, dict) or not all(name.isdecimal() and type(n) is int for name, n in voxels.items()):
        return None
    return {int(name): number for name, number in voxels.items()}


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
