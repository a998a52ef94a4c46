"""What a model was made from: its data and the weights that it started from, with their licences and ancestors."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.records.reading import RECORD, read_record
from med3d_components.settings import read_settings
from med3d_components.utils.files import file_digest
from med3d_components.weights.cards import CARDS
from med3d_components.weights.load import LoadReport

__all__ = ["data_licences", "describe_data", "describe_weights"]

logger = logging.getLogger(__name__)

HEADER = 1024
"""Bytes of a volume that are read, unpacked: the header of NIfTI and MetaImage, most of that of NRRD."""


def describe_data(datalist: Any, dataset_dir: str | os.PathLike[str], names: Sequence[str]) -> dict[str, Any]:
    """Return what identifies the data of a training; no voxel is looked at.

    Args:
        datalist: its ``training`` and ``validation`` items, as those of ``SegmentationDatalist``.
        dataset_dir: folder of the data.
        names: of the data sets, one for each domain.

    Returns:
        ``sets``: name, licence and hash of its dataset.json of each data set, null for what is unknown; ``training``
        and ``validation``: number of cases; ``listing``: a hash of the names, sizes and headers of their files, which
        does not depend on where the folder lies.

    Example:
        >>> from med3d_components.data import SegmentationDatalist
        >>> folder = "3DSeg-8/Task09_Spleen"
        >>> found = describe_data(SegmentationDatalist(folder), folder, ["Task09_Spleen"])
        >>> found["training"], found["validation"], found["sets"][0]["licence"]
        (3, 1, None)
    """
    root = Path(dataset_dir).resolve()
    parts = {"training": datalist.training, "validation": datalist.validation}
    digest = hashlib.sha256()
    for path in _files([*datalist.training, *datalist.validation]):
        name = Path(os.path.relpath(path.resolve(), root)).as_posix()
        digest.update(f"{name} {path.stat().st_size} {hashlib.sha256(_head(path)).hexdigest()}\n".encode())
    cases = {part: len({(item.get("domain"), item["case"]) for item in items}) for part, items in parts.items()}
    return {"sets": [_describe_set(root, name) for name in names], **cases, "listing": digest.hexdigest()}


def describe_weights(option: str, source: str, path: Path | None, report: LoadReport | None = None) -> dict[str, Any]:
    """Return where weights that a training started from come from, along the chain of trainings before it.

    Args:
        option: of the training that named them.
        source: its value.
        path: the file.
        report: of their loader, which knows more than the file's neighbours.

    Returns:
        ``option``, ``source``, ``sha256``, ``licence``, ``training_sets``, and ``record``, the run.json of the
        training that they are of; null for what is unknown.
    """
    found: dict[str, Any] = {"option": option, "source": source}
    if path is None or not path.is_file():
        return {**found, "sha256": None, "licence": None, "training_sets": None, "record": None}
    digest = report.sha256 if report else file_digest(path)
    if report:
        sets = None if report.training_sets is None else list(report.training_sets)
    else:
        sets = read_settings(path.with_name("settings.json"), default={"trained_on": None})["trained_on"]
    record = _record_of(path, digest)
    card = next((card for card in CARDS if card.filename == path.name or source.startswith(f"{card.source}:")), None)
    own = data_licences(record) if record else []
    licence = card.licence if card else "; ".join(own) or None
    # A file that nobody describes holds nothing that tells of its data.
    return {**found, "sha256": digest, "licence": licence, "training_sets": sets or None, "record": record}


def data_licences(record: Mapping[str, Any]) -> list[str]:
    """Return the licences of all data and weights of a training and of those before it, each once.

    Args:
        record: of a training.

    Example:
        >>> data_licences({"data": {"sets": [{"licence": "CC0"}]}, "weights": [{"licence": "MIT", "record": None}]})
        ['CC0', 'MIT']
    """
    found = [one["licence"] for one in record["data"]["sets"] if one["licence"]]
    for weights in record["weights"]:
        earlier = weights["record"]
        found += data_licences(earlier) if earlier else [weights["licence"]] if weights["licence"] else []
    return list(dict.fromkeys(found))


def _describe_set(root: Path, name: str) -> dict[str, Any]:
    """Return what the dataset.json of a data set says; of several domains, each has its own folder."""
    found = next((path for path in (root / "dataset.json", root / name / "dataset.json") if path.is_file()), None)
    content = read_dataset_json(found) if found else {}
    licence = content.get("licence", content.get("license"))
    return {
        "name": name,
        "licence": " ".join(str(licence).split()) if licence else None,
        "dataset_json": file_digest(found) if found else None,
    }


def _files(items: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Return the files of all volumes of a list's items, sorted."""
    return sorted({file for item in items for key in ("image", "label", "mask") for file in _of_volume(item.get(key))})


def _of_volume(value: Any) -> Iterator[Path]:
    # The label of a nodule is a number.
    for place in ensure_tuple(value) if isinstance(value, str | Path | list | tuple) else ():
        path = Path(str(place).partition("::")[0])
        if path.is_dir():
            yield from (file for file in path.rglob("*") if file.is_file())
        elif path.is_file():
            yield path


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(HEADER)
    if not start.startswith(b"\x1f\x8b"):
        return start
    with gzip.open(path) as packed:
        return packed.read(HEADER)


def _record_of(path: Path, digest: str) -> dict[str, Any] | None:
    """Return the record that lies beside weights, or in ``models/`` of the same run, if it is of these very weights."""
    for place in (path.with_name(RECORD), path.parent.parent / "models" / RECORD):
        if not place.is_file():
            continue
        record = read_record(place)
        if digest in record["files"].values():
            return {name: value for name, value in record.items() if name not in ("scores", "command")}
        logger.warning("%s is not of %s, or of a training that has not ended; what it says is not kept.", place, path)
    return None
