"""What DICOM results take from the headers of their scan: patient, study, and references to its images."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pydicom
from numpy.typing import NDArray
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VM
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, STR_VR, TM, validate_value

from med3d_components.data.dicom import DicomSeries, read_series
from med3d_components.data.dicom_files import quiet
from med3d_components.masks.nifti import check_grid

__all__ = ["IDENTITY", "MAKER", "read_headers", "series_of"]

logger = logging.getLogger(__name__)
MAKER = "med3d_components"
IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""What every object must say of its patient and study, be it nothing."""
SHARED_UIDS = {"StudyInstanceUID": "study", "FrameOfReferenceUID": "frame of reference"}
"""UIDs that a result shares with its scan, and what they are made of where the scan has none."""
IMAGE_GROUPS = (0x0018, 0x0020, 0x0028, 0x5200)
"""Groups of tags that say of an image what is the reader's to judge."""


def series_of(scan_path: str | os.PathLike[str], mask: NDArray[Any], resample: bool) -> DicomSeries:
    """Return the series of a mask.

    Raises:
        ValueError: if the scan is no DICOM series, or the mask has not its voxels.
    """
    if Path(scan_path).is_file():
        raise ValueError(
            f"{scan_path} is no DICOM series, which the formats dicom-seg and rtstruct need; choose nii.gz or seg.nrrd."
        )
    series = read_series(scan_path, resample)
    check_grid(mask.shape, series.shape, scan_path)
    return series


def read_headers(series: DicomSeries) -> list[Dataset]:
    """Read the headers of a series' files, and give each what the standard demands.

    An anonymised series may lack it, and old scanners and programs write what is not allowed.
    """
    source = series.uid or series.frames[0].instance_uid or str(series.folder.absolute())
    with quiet():
        headers: list[Dataset] = [pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in series.files]
        first = headers[0]
        invalid = [keyword for keyword in first.dir() if not _is_valid(first, keyword)]
        for keyword in invalid:
            del first[keyword]
        for keyword in IDENTITY:
            if not first.get(keyword):
                setattr(first, keyword, "")
        shared = {keyword: first.get(keyword) or _made_uid(source, text) for keyword, text in SHARED_UIDS.items()}
        shared["SeriesInstanceUID"] = series.uid or _made_uid(source, "series")
        for number, header in enumerate(headers):
            for keyword, uid in shared.items():  # some give each slice a study of its own
                setattr(header, keyword, uid)
            for keyword in ("SOPClassUID", "SOPInstanceUID"):
                given = header.get(keyword) or header.file_meta.get(f"MediaStorage{keyword}")
                setattr(header, keyword, given or _made_uid(source, f"image {number}"))
    if invalid:
        logger.warning(
            "%s: DICOM does not allow its %s, left out of its DICOM results.", series.path, ", ".join(invalid)
        )
    return headers


def _made_uid(source: str, text: str) -> str:
    return str(generate_uid(entropy_srcs=[source, text]))


def _is_valid(header: Dataset, keyword: str) -> bool:
    """Tell whether DICOM allows the value of a tag, among those of the patient, the study and their UIDs."""
    try:
        element = header[keyword]
        values = list(element.value) if isinstance(element.value, MultiValue) else [element.value]
        if keyword not in (*IDENTITY, *SHARED_UIDS) and (element.tag.group in IMAGE_GROUPS or element.VR == "UI"):
            return True
        for text in [str(value) for value in values if value is not None and element.VR in STR_VR]:
            validate_value(element.VR, text, pydicom.config.RAISE)
            {"DA": DA, "TM": TM}.get(element.VR, str)(text)  # which find a 30th of February
    except (NotImplementedError, OverflowError, TypeError, ValueError):
        return False
    allowed = {"PatientSex": ("", "M", "F", "O"), "SpecificCharacterSet": python_encoding}.get(keyword, values)
    return all(value is None or value in allowed for value in values) and (
        len(values) < 2 or dictionary_VM(element.tag) != "1"
    )
