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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from med3d_components.data.domains import DomainFacts
from med3d_components.utils import atomic_path, write_json

__all__ = ["LabelledScan", "save_nifti", "write_domain"]


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
    """Write a domain's folder in the layout of the Medical Segmentation Decathlon.

    The folder appears when it is complete. Until then the scans gather in a hidden folder next to it, and a call that
    repeats an interrupted one continues with the scan it stopped at. Equal scans give byte-identical files.

    Args:
        folder: to write; its last part becomes the name in ``dataset.json``.
        facts: of the domain.
        scans: case name to the function that reads or makes the scan. Those that an interrupted call has written are
            not asked for again.
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
    if _has_provenance(folder, provenance):
        return False
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} already holds other data; move it away or choose another folder.")
    work = zlib.crc32(json.dumps(provenance, sort_keys=True).encode())
    staging = folder.with_name(f".{folder.name}-{work:08x}.partial")
    for name, load in tqdm(scans.items(), desc=folder.name, unit="case"):
        image, label = (staging / part / f"{name}.nii.gz" for part in ("imagesTr", "labelsTr"))
        if not label.exists():  # the label is written last
            scan = load()
            save_nifti(scan.image, scan.affine, image)
            save_nifti(scan.label.astype(np.uint8), scan.affine, label)
    dataset = {
        "name": folder.name,
        "description": description,
        "reference": facts.source,
        "licence": licence or facts.licence,
        "tensorImageSize": "3D" if len(facts.channels) == 1 else "4D",
        "modality": {str(index): name for index, name in enumerate(facts.channels)},
        "labels": {str(value): name for value, name in enumerate(facts.classes)},
        "numTraining": len(scans),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{x}.nii.gz", "label": f"./labelsTr/{x}.nii.gz"} for x in scans],
        "test": [],
        **provenance,
    }
    write_json(staging / "dataset.json", dataset)
    staging.replace(folder)
    return True


def _has_provenance(folder: Path, provenance: Mapping[str, Any]) -> bool:
    """Tell whether the folder's ``dataset.json`` exists and has these entries."""
    file = folder / "dataset.json"
    return file.is_file() and provenance.items() <= json.loads(file.read_text(encoding="utf-8")).items()


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
