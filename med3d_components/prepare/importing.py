"""Import segmentations made elsewhere: check them, and write them as the folder of a domain."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from med3d_components.data.dataset_json import check_classes
from med3d_components.data.domains import DomainFacts
from med3d_components.data.labels import count_values, fit_label
from med3d_components.data.volumes import read_volume, scan_files
from med3d_components.prepare.decathlon import LabelledScan, describe_domain, label_type, write_case
from med3d_components.prepare.label_files import read_layers
from med3d_components.prepare.renewing import PARTS, Entry, ImportFolder
from med3d_components.utils import write_json
from med3d_components.utils.files import file_digest

__all__ = ["CaseFiles", "LabelFile", "import_cases", "import_domain"]

_REMEDY = "copy both anew, or move this case out of the source folder"


class LabelFile(NamedTuple):
    """A file that outlines structures of a case.

    Attributes:
        path: of the file.
        values: value in the file to value to write, 0 for background; any other value in the file is an error.
    """

    path: Path
    values: Mapping[int, int]


class CaseFiles(NamedTuple):
    """What one case is made of.

    Attributes:
        images: a file of any format that is read, or a folder with a DICOM series, for each channel; or one 4-D file.
        labels: files of its label. Where regions overlap, the class of the higher number is written.
    """

    images: tuple[Path, ...]
    labels: tuple[LabelFile, ...]


def import_domain(
    folder: str | os.PathLike[str],
    facts: DomainFacts,
    pairs: Mapping[str, tuple[Path, Path]],
    values: Mapping[int, int],
) -> bool:
    """Write images with a label each as the folder of a domain, see :func:`import_cases`.

    Args:
        folder: to write.
        facts: of the domain.
        pairs: case name to the files of its image and its label.
        values: label value in the files to value to write.

    Example:
        >>> facts = DomainFacts("CT", "spleen", ("background", "spleen"), source="a clinic", licence="none")
        >>> source = Path("3DSeg-8/Task09_Spleen")
        >>> pairs = {"case_0": (source / "imagesTr/case_0.nii.gz", source / "labelsTr/case_0.nii.gz")}
        >>> import_domain("data/spleen", facts, pairs, {0: 0, 1: 1})
        True
        >>> import_domain("data/spleen", facts, pairs, {0: 0, 1: 1})
        False
    """
    cases = {name: CaseFiles((image,), (LabelFile(label, values),)) for name, (image, label) in pairs.items()}
    return import_cases(folder, facts, cases)


def import_cases(folder: str | os.PathLike[str], facts: DomainFacts, cases: Mapping[str, CaseFiles]) -> bool:
    """Write images and labels of any format that is read as the folder of a domain.

    A folder that is new appears when it is complete; an interrupted import goes on with what it has written, as far as
    that is still right. An import that is run again renews the cases whose files have other contents and adds those
    that are new; it prints which, and which cases have no source any more: these stay.

    Args:
        folder: to write.
        facts: of the domain.
        cases: by name.

    Returns:
        Whether anything was written: False if files of the same contents have been imported there before.

    Raises:
        ValueError: if a file cannot be read, an image is not 3-D, a label does not lie on its image or has a value that
            is not expected.
        FileExistsError: if the folder holds other data, other classes, or a file to renew that was edited since.
    """
    check_classes(facts.classes, "The classes")
    place, cases = ImportFolder(folder), _flat_names(cases)
    sources = {name: _source(case) for name, case in cases.items()}
    place.check_same_work(facts.classes, sources)
    pending = place.find_pending(sources)
    left = [name for name in place.there if name not in cases]
    if pending:
        written = place.resume(pending, sources)
        for name in tqdm(pending, desc=place.folder.name, unit="case"):
            if name not in written:
                written[name] = {**_write(place.staging, name, cases[name], facts), "source": sources[name]}
                write_json(place.staging / "dataset.json", _describe(place, facts, written.values()))
        entries = [written.get(name) or place.there[name] for name in (*cases, *left)]
        place.publish(written, _describe(place, facts, entries))
    place.clean()
    _tell(place.there, pending, left)
    return bool(pending)


def _flat_names(cases: Mapping[str, CaseFiles]) -> dict[str, CaseFiles]:
    """Return the cases of sub-folders under names of one part, since the files of a domain lie in one folder."""
    flat: dict[str, CaseFiles] = {}
    for name, case in cases.items():
        if (new := name.replace("/", "_")) in flat:
            raise ValueError(f"Two cases would be called {new}, one of them for {name}; rename one.")
        flat[new] = case
    return flat


def _source(case: CaseFiles) -> dict[str, Any]:
    """Return what a case is made of: checksums, and what its labels' values stand for."""
    paths = [*case.images, *(label.path for label in case.labels)]
    values = [{str(value): target for value, target in sorted(label.values.items())} for label in case.labels]
    return {"files": [_digest(path) for path in paths], "values": values}


def _digest(path: Path) -> str:
    """Return the checksum of a file, or of all files of a series."""
    digests = [file_digest(file) for file in scan_files(path)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _write(staging: Path, name: str, case: CaseFiles, facts: DomainFacts) -> Entry:
    """Write a case, and return its entry with the checksums of what was written."""
    entry = write_case(staging, name, _read_scan(name, case, facts), len(facts.classes))
    return entry | {"written": {part: file_digest(staging / entry[part]) for part in PARTS}}


def _read_scan(name: str, case: CaseFiles, facts: DomainFacts) -> LabelledScan:
    channels, affine = _read_channels(case.images)
    if len(channels) != len(facts.channels):
        raise ValueError(
            f"{name} has {len(channels)} channels, but should have {len(facts.channels)} "
            f"({', '.join(facts.channels)}); split its image, or add a file for each channel."
        )
    # In the order in which files hold voxels: to compare the two is slow where they run across each other.
    label = np.zeros(channels[0].shape, label_type(len(facts.classes)), order="F")
    for file in case.labels:
        for layer in read_layers(file.path, case.images[0]):
            values = _known_values(layer.voxels, file)
            what = f"{name}: its label {file.path}"
            voxels = fit_label(layer.voxels, layer.affine, label.shape, affine, what)
            for value in values:
                target = file.values[value]
                label[(voxels == value) & (label < target)] = target
    return LabelledScan(channels[0] if len(channels) == 1 else np.stack(channels, axis=-1), label, affine)


def _read_channels(images: Sequence[Path]) -> tuple[list[NDArray[Any]], NDArray[np.float64]]:
    """Return the channels of an image on the grid of the first, and its affine."""
    channels: list[NDArray[Any]] = []
    for path in images:
        image, affine = read_volume(path)
        if not channels:
            shape, grid = image.shape[:3], affine
        if sorted(image.shape[:3]) != sorted(shape):
            raise ValueError(f"{images[0]} has shape {shape}, but {path} has {image.shape[:3]}; {_REMEDY}.")
        for channel in np.moveaxis(image.reshape(*image.shape[:3], -1), -1, 0):
            channels.append(fit_label(channel, affine, shape, grid, f"{path}, a channel,"))
    return channels, grid


def _known_values(voxels: NDArray[Any], file: LabelFile) -> list[int]:
    """Return the values of a layer that stand for a class."""
    found = list(count_values(voxels))
    if unknown := [value for value in found if value not in file.values]:
        raise ValueError(
            f"{file.path} has the values {unknown[:5]}, but should have {sorted(file.values)}; correct it, or declare "
            "them as classes."
        )
    return [value for value in found if file.values[value] > 0]


def _describe(place: ImportFolder, facts: DomainFacts, entries: Iterable[Entry]) -> dict[str, Any]:
    return describe_domain(place.folder.name, facts, f"{facts.target}, imported from {facts.source}", list(entries))


def _tell(there: Mapping[str, Entry], written: Iterable[str], left: Sequence[str]) -> None:
    """Print what an import that was run again has done."""
    if not there:
        return
    for text, names in (
        ("Renewed, since files or the choice of classes have changed", [name for name in written if name in there]),
        ("New", [name for name in written if name not in there]),
        ("Without a source now, and kept as imported before", left),
    ):
        if names:
            print(f"{text}: {', '.join(names)}.")
