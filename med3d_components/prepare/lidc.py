"""Turn the LIDC-IDRI collection, CT series and XML files, into a list of lung nodules with masks.

Source: LIDC-IDRI, The Cancer Imaging Archive, https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX; Armato et al., The Lung
Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI), Medical Physics 38(2), 2011.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from tqdm import tqdm

from med3d_components.data.dicom import DicomSeries, is_dicom_folder, read_series, read_series_uid
from med3d_components.prepare.decathlon import save_nifti
from med3d_components.prepare.lidc_xml import Reading, Report, read_report
from med3d_components.utils import write_json

__all__ = ["import_lidc"]

_FACTS = {
    "name": "LIDC-IDRI",
    "description": "Lung nodules of 3 mm or more, outlined and rated by up to four radiologists",
    "reference": "LIDC-IDRI, The Cancer Imaging Archive, https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX",
    "licence": "CC-BY 3.0",
}
_MARGIN = 3  # voxels around a nodule in its mask

_log = logging.getLogger(__name__)


class _Annotation(NamedTuple):
    """A reading in the space of its series: its voxels as flat indices, its centre and equivalent radius in mm."""

    reader: int
    malignancy: int
    voxels: NDArray[np.int64]
    centre: NDArray[np.float64]
    radius: float


def import_lidc(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> bool:
    """List the nodules of 3 mm or more of a download of LIDC-IDRI, and write a mask for each.

    The images stay where they are. An XML file is matched to a CT series by the SeriesInstanceUID that it names. The
    folder appears when it is complete::

        out/
          dataset.json                    {"nodules": [{"image", "center_mm", "malignancy", "mask", "patient"}, ...]}
          masks/LIDC-IDRI-0001_01.nii.gz  the nodule and a margin of 3 voxels, in the voxels of its series

    ``image`` is the folder of the series, relative to ``out``, so that both can move together; ``mask`` is relative to
    ``out`` too; ``center_mm`` is in RAS mm, the mean over the readers; ``malignancy`` holds one score per reader.

    LIDC-IDRI draws an outline on the first pixels outside the nodule. So these do not count to the nodule, unless
    nothing else is left of it in a slice, and those of a hole count to the hole.

    It also does not tell which outlines of different readers are the same nodule. Ours are when the distance of their
    centres is at most the larger radius of two spheres of their volumes, in chains; a reader who has several in such a
    chain has the one nearest to its mean there, and the others are joined anew. The mask holds the voxels that at least
    half of a nodule's readers outlined.

    Args:
        source: folder of the unpacked download; series and XML files may lie anywhere below it.
        out: folder to write.

    Returns:
        Whether anything was written: False if ``out`` already holds what this call would write.

    Raises:
        FileNotFoundError: if there is no ``source``.
        FileExistsError: if ``out`` holds anything else.
        ValueError: if an XML file is damaged, has no valid malignancy or does not fit its series, or if there is no
            nodule at all. A series without XML file or the reverse, and a series that is not one volume, is passed
            over with a warning.

    Example:
        The source is a download of more than 100 GB.

        >>> import_lidc("downloads/LIDC-IDRI", "data/lidc")  # doctest: +SKIP
        True
    """
    source, out = Path(source).resolve(), Path(out).resolve()
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder; give the one that LIDC-IDRI was unpacked into.")
    folders, files = _find(source)
    provenance = {"source": _relative(source, out), "series": len(folders), "annotations_crc32": _checksum(files)}
    dataset = out / "dataset.json"
    if dataset.is_file() and json.loads(dataset.read_text(encoding="utf-8")).get("provenance") == provenance:
        return False
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} already holds other data; move it away or choose another folder.")
    pairs = _pair(folders, files)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as parent:
        staging = Path(parent) / out.name
        nodules = _write_nodules(pairs, out, staging)
        if not nodules:
            raise ValueError(f"{source} holds no nodule of 3 mm or more in a CT series with its XML file; check it.")
        write_json(staging / "dataset.json", {**_FACTS, "nodules": nodules, "provenance": provenance})
        staging.replace(out)
    return True


def _find(source: Path) -> tuple[list[Path], list[Path]]:
    """Find the folders of DICOM files and the XML files, each sorted."""
    folders, files = [], []
    for root, _, names in os.walk(source):
        files += [Path(root, name) for name in names if name.lower().endswith(".xml")]
        if is_dicom_folder(root):
            folders.append(Path(root))
    return sorted(folders), sorted(files)


def _checksum(files: Iterable[Path]) -> int:
    checksum = 0
    for file in files:
        checksum = zlib.crc32(file.read_bytes(), checksum)
    return checksum


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def _pair(folders: Iterable[Path], files: Iterable[Path]) -> list[tuple[DicomSeries, Report]]:
    """Match series to the reports on them, in the order of the folders."""
    reports = _read_reports(files)
    pairs, bare = [], []
    for folder in tqdm(folders, desc="headers", unit="series"):
        try:
            uid = read_series_uid(folder)
            if uid in reports:
                pairs.append((read_series(folder), reports.pop(uid)))
            else:
                bare.append(folder)
        except ValueError as e:
            _log.warning("Passed over: %s", e)
    if bare:
        _log.warning("Passed over %d DICOM series without XML file, the first is %s", len(bare), bare[0])
    for report in reports.values():
        _log.warning("Passed over %s: its series %s is not there or not one volume", report.file, report.series_uid)
    return pairs


def _read_reports(files: Iterable[Path]) -> dict[str, Report]:
    """Read the reports by the series that they are on; the same file may lie in two places."""
    reports: dict[str, Report] = {}
    for file in files:
        report = read_report(file)
        if report is None:
            continue
        first = reports.setdefault(report.series_uid, report).file
        if first.read_bytes() != file.read_bytes():
            raise ValueError(f"{first} and {file} report differently on series {report.series_uid}; move one away.")
    return reports


def _write_nodules(pairs: Iterable[tuple[DicomSeries, Report]], out: Path, staging: Path) -> list[dict[str, Any]]:
    """Write the masks into ``staging`` and return the nodules as ``dataset.json`` in ``out`` lists them."""
    nodules = []
    count: Counter[str] = Counter()
    for series, report in tqdm(pairs, desc=out.name, unit="series"):
        if not series.patient:
            raise ValueError(f"{series.folder} names no patient (tag 0010|0020); move it away, or set the tag.")
        for nodule in _cluster([_annotate(reading, series) for reading in report.readings]):
            count[series.patient] += 1
            mask = f"masks/{re.sub(r'[^-.0-9A-Za-z]', '_', series.patient)}_{count[series.patient]:02}.nii.gz"
            save_nifti(*_mask(nodule, series), staging / mask)
            nodules.append(
                {
                    "image": _relative(series.folder, out),
                    "center_mm": np.mean([x.centre for x in nodule], axis=0).round(3).tolist(),
                    "malignancy": [x.malignancy for x in nodule],
                    "mask": mask,
                    "patient": series.patient,
                }
            )
    return nodules


def _annotate(reading: Reading, series: DicomSeries) -> _Annotation:
    voxels = reading.voxels(series)
    index = np.stack(np.unravel_index(voxels, series.shape), axis=1)
    volume = voxels.size * abs(np.linalg.det(series.affine))
    return _Annotation(
        reader=reading.reader,
        malignancy=reading.malignancy,
        voxels=voxels,
        centre=apply_affine(series.affine, index.mean(axis=0)),
        radius=(3 * volume / (4 * np.pi)) ** (1 / 3),
    )


def _cluster(annotations: list[_Annotation]) -> list[list[_Annotation]]:
    """Join the annotations of one nodule, at most one of each reader, as ``import_lidc`` says."""
    nodules = []
    while annotations:
        rest: list[_Annotation] = []
        for chain in _chains(annotations):
            mean = np.mean([x.centre for x in chain], axis=0)
            nearest: dict[int, _Annotation] = {}
            for annotation in sorted(chain, key=lambda x: float(np.linalg.norm(x.centre - mean))):
                if nearest.setdefault(annotation.reader, annotation) is not annotation:
                    rest.append(annotation)
            nodules.append([nearest[reader] for reader in sorted(nearest)])
        annotations = rest
    return nodules


def _chains(annotations: list[_Annotation]) -> list[list[_Annotation]]:
    """Group annotations that are connected by pairs of different readers whose centres are close."""
    centres, radii, readers = (
        np.array([getattr(x, name) for x in annotations]) for name in ("centre", "radius", "reader")
    )
    near = cdist(centres, centres) <= np.maximum.outer(radii, radii)
    count, labels = connected_components(near & (readers[:, None] != readers), directed=False)
    return [[x for x, label in zip(annotations, labels, strict=True) if label == number] for number in range(count)]


def _mask(annotations: list[_Annotation], series: DicomSeries) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the voxels that half of the readers outlined, cropped, and the affine of the crop."""
    voxels, votes = np.unique(np.concatenate([x.voxels for x in annotations]), return_counts=True)
    voxels = voxels[votes >= min(len(annotations) / 2, votes.max())]  # outlines may miss each other
    index = np.stack(np.unravel_index(voxels, series.shape))
    low = np.maximum(index.min(axis=1) - _MARGIN, 0)
    high = np.minimum(index.max(axis=1) + 1 + _MARGIN, series.shape)
    mask = np.zeros(high - low, np.uint8)
    mask[tuple(index - low[:, None])] = 1
    return mask, series.affine @ from_matvec(np.eye(3), low)
