"""Turn the LIDC-IDRI collection, CT series and XML files, into a list of lung nodules with masks.

Source: LIDC-IDRI, The Cancer Imaging Archive, https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX; Armato et al., The Lung
Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI), Medical Physics 38(2), 2011.
"""

from __future__ import annotations

import os
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from med3d_components.data.dicom import DicomSeries, find_series
from med3d_components.prepare.decathlon import save_nifti
from med3d_components.prepare.lidc_nodules import find_nodules
from med3d_components.prepare.lidc_renewal import check_untouched, has_provenance, replace_folder, write_listing
from med3d_components.prepare.lidc_series import choose_reports, find_xml, pair_reports
from med3d_components.prepare.lidc_xml import Report

__all__ = ["import_lidc"]

_FACTS = {
    "name": "LIDC-IDRI",
    "description": "Lung nodules of 3 mm or more, outlined and rated by up to four radiologists",
    "reference": "LIDC-IDRI, The Cancer Imaging Archive, https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX",
    "licence": "CC-BY 3.0",
}


def import_lidc(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> bool:
    """List the nodules of 3 mm or more of a download of LIDC-IDRI, and write a mask for each.

    The images stay where they are. An XML file is matched to a CT series by the SeriesInstanceUID that it names. The
    folder appears when it is complete::

        out/
          dataset.json                    {"nodules": [{"image", "center_mm", "malignancy", "mask", "patient"}, ...]}
          masks/LIDC-IDRI-0001_01.nii.gz  the nodule and a margin of 3 voxels, in the voxels of its series

    ``image`` is the folder of the series, or ``FOLDER::NAME`` where several lie in one, relative to ``out``, so that
    both can move together; ``mask`` is relative to ``out`` too; ``center_mm`` is in RAS mm, the mean over the readers;
    ``malignancy`` holds one score per reader.

    LIDC-IDRI draws an outline on the first pixels outside the nodule. So these do not count to the nodule, unless
    nothing else is left of it in a slice, and those of a hole count to the hole. It also does not tell which outlines
    are of the same nodule: :func:`~med3d_components.prepare.lidc_nodules.join_outlines` says which ours are. The mask
    holds the voxels that at least half of a nodule's readers outlined.

    An import that is run again does nothing if series and annotations are as they were. Otherwise it writes everything
    anew, if dataset.json and masks are still as it wrote them, and leaves other files in ``out`` as they are.

    Args:
        source: folder of the unpacked download; series and XML files may lie anywhere below it.
        out: folder to write.

    Returns:
        Whether anything was written: False if ``out`` already holds what this call would write.

    Raises:
        FileNotFoundError: if there is no ``source``.
        FileExistsError: if ``out`` holds other data, was imported from elsewhere, or was changed since.
        ValueError: if an XML file is damaged, has no valid malignancy or does not fit its series, two files differ on a
            series, or there is no nodule at all. What LIDC-IDRI itself leaves out or says twice, a series without XML
            file or the reverse, and a series that is not one volume, is passed over with a warning.

    Example:
        The source is a download of more than 100 GB.

        >>> import_lidc("downloads/LIDC-IDRI", "data/lidc")  # doctest: +SKIP
        True
    """
    source, out = Path(source).resolve(), Path(out).resolve()
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder; give the one that LIDC-IDRI was unpacked into.")
    found, files = find_series(source), find_xml(source)
    provenance = {
        "source": _relative(source, out),
        "series": len(found.series),
        "series_crc32": _checksum(_identity(series, out) for series in found.series),
        "annotations_crc32": _checksum(file.read_bytes() for file in files),
    }
    if has_provenance(out, provenance):
        return False
    check_untouched(out, str(provenance["source"]))
    pairs = pair_reports(found, choose_reports(files))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as parent:
        staging = Path(parent) / out.name
        nodules = _write_nodules(pairs, out, staging)
        if not nodules:
            raise ValueError(f"{source} holds no nodule of 3 mm or more in a CT series with its XML file; check it.")
        write_listing(staging, {**_FACTS, "nodules": nodules, "provenance": provenance})
        replace_folder(out, staging)
    return True


def _identity(series: DicomSeries, out: Path) -> bytes:
    """Return what of a series goes into the import."""
    affine = series.affine.round(6).tolist()
    return repr((_relative(series.path, out), series.patient, series.shape, affine, series.instance_uids)).encode()


def _checksum(parts: Iterable[bytes]) -> int:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return checksum


def _relative(path: str | Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive
        return Path(path).as_posix()


def _write_nodules(pairs: Iterable[tuple[DicomSeries, Report]], out: Path, staging: Path) -> list[dict[str, Any]]:
    """Write the masks into ``staging`` and return the nodules as ``dataset.json`` in ``out`` lists them."""
    entries = []
    count: Counter[str] = Counter()
    for series, report in tqdm(pairs, desc=out.name, unit="series"):
        if not series.patient:
            raise ValueError(f"{series.path} names no patient (tag 0010|0020); move it away, or set the tag.")
        for nodule in find_nodules(report, series):
            count[series.patient] += 1
            mask = f"masks/{re.sub(r'[^-.0-9A-Za-z]', '_', series.patient)}_{count[series.patient]:02}.nii.gz"
            save_nifti(*nodule.mask(), staging / mask)
            entries.append(
                {
                    "image": _relative(series.path, out),
                    "center_mm": nodule.centre.round(3).tolist(),
                    "malignancy": nodule.malignancy,
                    "mask": mask,
                    "patient": series.patient,
                }
            )
    return entries
