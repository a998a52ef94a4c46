"""DICOM series with SEG or RTSTRUCT objects, wherever both lie: UIDs say what belongs together."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from med3d_components.data.dicom import DicomSeries, find_series
from med3d_components.prepare.dicom_labels import DicomLabel, match_series
from med3d_components.prepare.layouts.base import CaseSource, LabelSource, Layout
from med3d_components.prepare.pairing import same_form

__all__ = ["dicom_layout"]


def dicom_layout(folder: Path, labels: Sequence[DicomLabel]) -> Layout:
    """Find the series of each label. Series without one are left out, which is said.

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
        name: CaseSource((Path(path),), tuple(LabelSource(label.path) for label in matched[path]))
        for path, name in _name_cases(folder, series).items()
    }
    kinds = " and ".join(sorted({label.kind for label in labels}))
    return Layout(f"DICOM series with {kinds}", cases, channels=_modalities(series))


def _name_cases(folder: Path, series: Mapping[str, DicomSeries]) -> dict[str, str]:
    """Return path of a series to name: the outermost folder that holds no other one, such as the patient's."""
    places = {path: Path(os.path.relpath(one.folder, folder)) for path, one in series.items()}
    above = Counter(Path(*place.parts[:depth]) for place in places.values() for depth in range(1, len(place.parts) + 1))
    names = {}
    for path, place in places.items():
        depths = range(1, len(place.parts) + 1)
        alone = next((Path(*place.parts[:depth]) for depth in depths if above[Path(*place.parts[:depth])] == 1), None)
        names[path] = same_form(alone.as_posix()) if alone else series[path].name
    return names


def _modalities(series: Mapping[str, DicomSeries]) -> tuple[str]:
    return (" and ".join(sorted({one.modality or "unknown" for one in series.values()})),)
