"""DICOM Segmentation objects, by highdicom."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from skimage.color import rgb2lab

from med3d_components import __version__
from med3d_components.masks.classes import Code, MaskClass
from med3d_components.masks.dicom_headers import MAKER, read_headers, series_of
from med3d_components.utils import atomic_path

__all__ = ["check_highdicom", "write_dicom_seg"]


def check_highdicom() -> None:
    """Check that the library that DICOM SEG needs is there.

    Raises:
        ModuleNotFoundError: if it is not.
    """
    if find_spec("highdicom") is None:
        raise ModuleNotFoundError(
            'The format dicom-seg needs highdicom; install it with pip install "med3d-components[dicom]", '
            "or choose nii.gz, seg.nrrd or rtstruct."
        )


def write_dicom_seg(
    path: Path,
    mask: NDArray[Any],
    scan_path: str | os.PathLike[str],
    classes: Sequence[MaskClass],
    resample: bool = False,
) -> None:
    """Write a mask as a DICOM Segmentation, atomically: binary, a segment per class, with codes and colours.

    Patient and study are those of the scan; what an anonymised series lacks of them, or DICOM does not allow, stays
    empty, or is made from its UID, so that all results of a series lie in one study.

    Args:
        path: to write.
        mask: (x, y, z), in unsigned integers, on the grid of the scan.
        scan_path: of the series, as :func:`read_series` takes it.
        classes: of the mask, without the background.
        resample: whether the series was resampled as it was read.

    Raises:
        ModuleNotFoundError: without highdicom.
        ValueError: if the scan is no DICOM series or highdicom cannot refer to it, or the mask has not its voxels.
    """
    check_highdicom()
    import highdicom as hd

    series = series_of(scan_path, mask, resample)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ series.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=MAKER, version=__version__, family=hd.sr.CodedConcept("123109", "DCM", "Artificial Intelligence")
    )
    headers = read_headers(series)
    build = partial(
        hd.seg.Segmentation,
        source_images=headers,
        pixel_array=np.ascontiguousarray(mask.T),
        segmentation_type="BINARY",
        segment_descriptions=[_segment(each, algorithm) for each in classes],
        series_instance_uid=generate_uid(),
        series_number=1000,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        # Of the volume as it was read, which need not have one plane per file.
        pixel_measures=hd.PixelMeasuresSequence(spacing[[1, 0]].tolist(), float(spacing[2]), float(spacing[2])),
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", (lps[:3, :2] / spacing[:2]).T.ravel().tolist()),
        plane_positions=[
            hd.PlanePositionSequence("PATIENT", apply_affine(lps, (0, 0, k)).tolist()) for k in range(mask.shape[2])
        ],
        omit_empty_frames=bool(mask.any()),
        specific_character_set=None,
    )
    try:
        seg = build()
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise ValueError(
            f"{scan_path} cannot be written as dicom-seg, since highdicom cannot refer to its images "
            f"({type(e).__name__}: {e}); choose other formats."
        ) from e
    if "SpecificCharacterSet" in headers[0]:  # highdicom refuses some that the standard allows, as those of Japan
        seg.SpecificCharacterSet = headers[0].SpecificCharacterSet
    seg.ContentCreatorName = ""  # which the standard wants to be there, and highdicom leaves out
    with atomic_path(path) as temporary:
        seg.save_as(temporary)


def _segment(each: MaskClass, algorithm: Any) -> Any:
    import highdicom as hd

    lightness, a, b = rgb2lab(np.array(each.color) / 255).tolist()
    segment = hd.seg.SegmentDescription(
        segment_number=each.value,
        segment_label=each.name[:64],  # the longest text of its kind
        segmented_property_category=_concept(each.category),
        segmented_property_type=_concept(each.code),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor(lightness, a, b),
    )
    if each.side:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(each.side)]
    return segment


def _concept(code: Code) -> Any:
    import highdicom as hd

    return hd.sr.CodedConcept(code.value, "SCT", code.meaning)
