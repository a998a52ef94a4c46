"""Write a domain in the layout of the Medical Segmentation Decathlon (MSD).

The folder of a domain::

    Task09_Spleen/
      dataset.json     names of the classes and channels, list of the training pairs
      imagesTr/        case.nii.gz
      labelsTr/        case.nii.gz
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.data.domains import DomainFacts
from med3d_components.data.labels import count_values
from med3d_components.utils import atomic_path, write_json

__all__ = ["LabelledScan", "check_free", "describe_domain", "label_type", "save_nifti", "write_case", "write_domain"]


class LabelledScan(NamedTuple):
    """An image of shape (H, W, D) or (H, W, D, C), its label of shape (H, W, D), and voxel to RAS mm as (4, 4)."""

    image: NDArray[Any]
    label: NDArray[Any]
    affine: NDArray[Any]


def write_domain(
    folder: str | os.PathLike[str],
    facts: DomainFacts,
    scans: Mapping[str, Callable[[], LabelledScan]],
    description: str,
    provenance: Mapping[str, Any],
    licence: str | None = None,
) -> bool:
    """Write scans that a program makes as the folder of a domain; those of files are for :func:`import_cases`.

    The folder appears when it is complete. Until then the scans gather in a hidden folder next to it, and a call that
    repeats an interrupted one continues with the scan it stopped at. Equal scans give byte-identical files.

    Args:
        folder: to write; its last part becomes the name in ``dataset.json``.
        facts: of the domain.
        scans: case name to the function that makes the scan. Those that an interrupted call has written are not asked
            for again.
        description: for ``dataset.json``.
        provenance: how the folder came to be, added to ``dataset.json``. Two calls of equal provenance count as the
            same work.
        licence: of the files, that of ``facts`` when None.

    Returns:
        Whether anything was written: False if the folder is already there with this provenance.

    Raises:
        FileExistsError: if the folder holds anything else.
    """
    folder = Path(folder)
    file = folder / "dataset.json"
    if file.is_file() and provenance.items() <= read_dataset_json(file).items():
        return False
    check_free(folder)
    work = zlib.crc32(json.dumps(provenance, sort_keys=True).encode())
    staging = folder.with_name(f".{folder.name}-{work:08x}.partial")
    gathered = staging / "cases.json"
    entries: dict[str, Any] = read_dataset_json(gathered) if gathered.is_file() else {}
    for name, load in tqdm(scans.items(), desc=folder.name, unit="case"):
        if name not in entries:
            entries[name] = write_case(staging, name, load(), len(facts.classes))
            write_json(gathered, entries)
    dataset = describe_domain(folder.name, facts, description, [entries[name] for name in scans])
    write_json(staging / "dataset.json", {**dataset, **provenance, "licence": licence or facts.licence})
    gathered.unlink()
    staging.replace(folder)
    return True


def check_free(folder: Path) -> None:
    """Refuse a folder that holds anything.

    Raises:
        FileExistsError: naming it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} already holds other data; move it away or choose another folder.")


def write_case(folder: Path, name: str, scan: LabelledScan, num_classes: int) -> dict[str, Any]:
    """Write the image and the label of a case below the folder of a domain.

    Args:
        folder: of the domain.
        name: of the case.
        scan: to write.
        num_classes: background included, which decides the label's type.

    Returns:
        The case's entry in ``dataset.json``: "image", "label", and "voxels" of each class but the background.
    """
    entry = {part: f"./{part}sTr/{name}.nii.gz" for part in ("image", "label")}
    label = scan.label.astype(label_type(num_classes))
    save_nifti(scan.image, scan.affine, folder / entry["image"])
    save_nifti(label, scan.affine, folder / entry["label"])
    return {**entry, "voxels": {str(value): number for value, number in count_values(label).items() if value > 0}}


def describe_domain(
    name: str, facts: DomainFacts, description: str, entries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the content of a ``dataset.json``.

    Args:
        name: of the domain.
        facts: of the domain.
        description: of the domain.
        entries: of its cases, see :func:`write_case`.
    """
    return {
        "name": name,
        "description": description,
        "reference": facts.source,
        "licence": facts.licence,
        "tensorImageSize": "3D" if len(facts.channels) == 1 else "4D",
        "modality": {str(index): name for index, name in enumerate(facts.channels)},
        "labels": {str(value): name for value, name in enumerate(facts.classes)},
        "numTraining": len(entries),
        "numTest": 0,
        "training": list(entries),
        "test": [],
    }


def label_type(num_classes: int) -> type[np.uint8] | type[np.uint16]:
    """Return the type of voxels that holds so many classes.

    Raises:
        ValueError: if none of NIfTI's does that other programs take for a label.

    Example:
        >>> label_type(401).__name__
        'uint16'
    """
    if num_classes > 2**16:
        raise ValueError(f"There are {num_classes} classes, but a label holds {2**16} at most; join some.")
    return np.uint8 if num_classes <= 2**8 else np.uint16


def save_nifti(array: NDArray[Any], affine: NDArray[Any], path: Path) -> None:
    """Write a .nii.gz whose bytes depend only on its content: no name and no time in the gzip header."""
    volume = nib.Nifti1Image(array, affine)
    volume.set_sform(affine, code="scanner")
    volume.set_qform(affine, code="scanner")  # some readers look at this one only
    volume.header.set_xyzt_units("mm")
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=file, mtime=0) as packed,
    ):
        packed.write(volume.to_bytes())
