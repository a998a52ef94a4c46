"""DICOM series with SEG or RTSTRUCT objects, wherever both lie: UIDs say what belongs together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from med3d_components.data.dicom import DicomSeries, find_series
from med3d_components.prepare.dicom_labels import DicomLabel, match_series
from med3d_components.prepare.layouts.base import CaseSource, LabelSource, Layout

__all__ = ["dicom_layout"]


def dicom_layout(folder: Path, labels: Sequence[DicomLabel]) -> Layout:
    """Find the series of each label. Series without one are left out, which is said.

    A case is called by the UID of its series, as the masks of an inference are: a name that depends on no other study
    and is no patient's, as that of a folder may be.

    Args:
        folder: with the series, at any depth.
        labels: SEG and RTSTRUCT objects, wherever they lie; one series may have several.

    Raises:
        ValueError: if a label belongs to no series, or to several.
    """
    found = find_series(folder)
    matched: dict[str, list[DicomLabel]] = defaultdict(list)
    for label in labels:
        try:
            matched[match_series(label, found.series).path].append(label)
        except ValueError as e:
            broken = "".join(f" {reason}" for _, reason in found.failures[:1])
            raise ValueError(f"{e}{broken}") from None
    series = {one.path: one for one in found.series if one.path in matched}
    if others := len(found.series) - len(series):
        print(f"{others} of {len(found.series)} series have no SEG or RTSTRUCT and are left out.")
    cases = {
        one.name: CaseSource((Path(path),), tuple(LabelSource(label.path) for label in matched[path]))
        for path, one in series.items()
    }
    kinds = " and ".join(sorted({label.kind for label in labels}))
    return Layout(f"DICOM series with {kinds}", cases, channels=_modalities(series))


def _modalities(series: Mapping[str, DicomSeries]) -> tuple[str]:
    return (" and ".join(sorted({one.modality or "unknown" for one in series.values()})),)
