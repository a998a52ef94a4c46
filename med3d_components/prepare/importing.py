"""Import segmentations made elsewhere: check them, and write them as the folder of a domain."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from med3d_components.data.domains import DomainFacts
from med3d_components.data.labels import fit_label
from med3d_components.data.volumes import read_volume
from med3d_components.prepare.decathlon import LabelledScan, write_domain
from med3d_components.prepare.label_files import read_layers

__all__ = ["CaseFiles", "LabelFile", "find_values", "import_cases", "import_domain"]

_REMEDY = "copy both anew, or move this case out of the source folder"
_NO_CLASS = 255


class LabelFile(NamedTuple):
    """A file of a label, and value in it to value to write."""

    path: Path
    values: Mapping[int, int]


class CaseFiles(NamedTuple):
    """What one case is made of.

    Attributes:
        images: one for each channel: files of any format, or folders with a DICOM series.
        labels: files of its label. Where regions overlap, the higher value is written.
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
    """
    return import_cases(
        folder,
        facts,
        {name: CaseFiles((image,), (LabelFile(label, values),)) for name, (image, label) in pairs.items()},
    )


def import_cases(folder: str | os.PathLike[str], facts: DomainFacts, cases: Mapping[str, CaseFiles]) -> bool:
    """Write images and labels of any format that MONAI reads as the folder of a domain.

    An interrupted import goes on where it stopped.

    Args:
        folder: to write.
        facts: of the domain.
        cases: by name.

    Returns:
        Whether anything was written: False if the same files have been imported there before.

    Raises:
        ValueError: if a file cannot be read, an image is not 3-D, an image and its label do not lie on the same grid,
            or a label has a value that is not expected.
        FileExistsError: if the folder holds anything else.
    """
    work = [
        (name, [x.resolve() for x in case.images], [(x.resolve(), dict(v)) for x, v in case.labels])
        for name, case in cases.items()
    ]
    provenance = {"imported": f"{zlib.crc32(repr((facts.classes, work)).encode()):08x}"}
    scans = {name: partial(_read_scan, case) for name, case in cases.items()}
    return write_domain(folder, facts, scans, f"{facts.target}, imported from {facts.source}", provenance)


def find_values(labels: Iterable[Path]) -> list[int]:
    """Return the values that occur in any of the labels, sorted.

    Raises:
        ValueError: if a file cannot be read, or has values that are no classes.
    """
    found: set[int] = set()
    for path in labels:
        values = np.unique(read_volume(path)[0])
        if len(values) > _NO_CLASS or (values < 0).any() or (values % 1 != 0).any():
            some = ", ".join(f"{value:g}" for value in values[:5])
            raise ValueError(f"{path} has {len(values)} values such as {some}; a label has few, whole and from 0 on.")
        found.update(int(value) for value in values)
    return sorted(found)


def _read_scan(case: CaseFiles) -> LabelledScan:
    images = [read_volume(path) for path in case.images]
    image, affine = images[0]
    label = np.zeros(image.shape[:3], np.uint8)
    for path, values in case.labels:
        for layer in read_layers(path, case.images[0]):
            placed = fit_label(layer.voxels, layer.affine, label.shape, affine, str(path))
            np.maximum(label, _map_values(placed, values, path), out=label)
    return LabelledScan(image if len(images) == 1 else np.stack([one for one, _ in images], -1), label, affine)


def _map_values(label: NDArray[Any], values: Mapping[int, int], path: Path) -> NDArray[np.uint8]:
    mapped = np.full(label.shape, _NO_CLASS, np.uint8)
    for value, target in values.items():
        mapped[label == value] = target
    if mapped.max() == _NO_CLASS:
        unknown = np.unique(label[mapped == _NO_CLASS])[:5].tolist()
        raise ValueError(f"{path} has the values {unknown}, but should have {sorted(values)}; {_REMEDY}.")
    return mapped
