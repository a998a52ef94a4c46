"""What shows when the cases of a data set are compared: the odd ones, and those that are there twice."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from med3d_components.data.sides import pair_sides
from med3d_components.prepare.inspection import AIR, CaseFacts, Finding
from med3d_components.report import short

__all__ = ["compare_cases", "group_findings", "is_ct", "unused_classes"]

FEWEST = 5
"""Cases that tell what is usual."""
DEVIATIONS = 4
"""Robust standard deviations, of logarithms, from the median to what is odd."""
SPACING_FACTOR, VOLUME_FACTOR = 1.5, 3.0
"""What is nearer to the median than this is not odd, however much the others agree."""
USUAL = 0.9
"""Share of the cases that have a class which a case without it lacks."""
OTHERS = {"MR", "MRI", "PET", "PT", "US", "T1", "T1W", "T2", "T2W", "FLAIR", "ADC"}
"""Modalities and sequences that a ``dataset.json`` may name and that are no CT."""
LISTED = 3


def compare_cases(cases: Sequence[CaseFacts], modality: str = "", channels: int = 1, channel: int = 0) -> None:
    """Add to the findings of each case what shows beside the others.

    Args:
        cases: all of a data set.
        modality: as its ``dataset.json`` states it.
        channels: number of those that it names.
        channel: that it says to use of several.

    Example:
        >>> twins = [CaseFacts("a", image_hash="1"), CaseFacts("b", image_hash="1")]
        >>> compare_cases(twins)
        >>> twins[1].findings[0].text
        'the image has the same voxels as that of a.'
    """
    if is_ct(modality, cases):
        _find_wrong_units(cases)
    _find_odd_channels(cases, channels, channel)
    _find_odd_spacings(cases)
    for name in dict.fromkeys(chain.from_iterable(case.volumes_ml for case in cases)):
        _find_odd_volumes(name, cases)
    _find_empty(cases)
    _find_duplicates(cases)
    _find_exchanged_sides(cases)


def is_ct(modality: str, cases: Sequence[CaseFacts]) -> bool:
    """Tell whether a data set is one of CT: if it says so; or, where it names no modality, if half of it reaches air.

    Example:
        >>> is_ct("CT", []), is_ct("MRI", [])
        (True, False)
    """
    words = set(re.findall(r"\w+", modality.upper()))
    if words & OTHERS:
        return False
    if "CT" in words:
        return True
    known = [case for case in cases if case.intensities]
    told = [case.modality == "CT" if case.modality else case.reaches_air for case in known]
    return 2 * sum(told) > len(told)


def unused_classes(classes: Sequence[str], cases: Sequence[CaseFacts]) -> list[str]:
    """Return the classes of which no case has a voxel."""
    return [name for name in classes[1:] if not any(case.volumes_ml.get(name) for case in cases)]


def group_findings(cases: Sequence[CaseFacts]) -> dict[str, list[CaseFacts]]:
    """Return each kind of finding with its cases, errors first."""
    found: dict[str, list[CaseFacts]] = {}
    for is_error in (True, False):
        for case in cases:
            for kind in dict.fromkeys(each.kind for each in case.findings if each.is_error == is_error):
                found.setdefault(kind, []).append(case)
    return found


def find_outliers(values: Sequence[float], factor: float) -> NDArray[np.bool_]:
    """Tell which positive numbers are far from the median of all, on a scale of factors.

    Args:
        values: the numbers.
        factor: what lies within it of the median is not far.

    Example:
        >>> find_outliers([10, 11, 9, 10, 12, 1], factor=3).tolist()
        [False, False, False, False, False, True]
    """
    if len(values) < FEWEST:
        return np.zeros(len(values), bool)
    distances = np.abs(np.log(values) - np.median(np.log(values)))
    return np.asarray(distances > max(np.log(factor), DEVIATIONS * 1.4826 * np.median(distances)))


def _find_wrong_units(cases: Sequence[CaseFacts]) -> None:
    for case in cases:
        if case.offset:
            case.findings.append(Finding("1024 HU off", case.offset))
        elif case.intensities and case.intensities.high < AIR:
            text = f"99 % of the voxels lie below {short(case.intensities.high)} HU: there is nothing but air."
            case.findings.append(Finding("air only", text))


def _find_empty(cases: Sequence[CaseFacts]) -> None:
    nothing = not any(any(case.volumes_ml.values()) for case in cases)  # which a training refuses
    for case in cases:
        known = case.intensities
        if known and known.low == known.high and known.lowest < known.highest:
            text = f"at least 98 % of the voxels are {known.low:g}."
            case.findings.append(Finding("nearly constant", text))
        if case.volumes_ml and not any(case.volumes_ml.values()):
            whose = "the label, as all others," if nothing else "the label"
            text = f"{whose} has no voxel of any class."
            case.findings.append(Finding("empty label", text, is_error=nothing))


def _find_odd_channels(cases: Sequence[CaseFacts], channels: int, channel: int) -> None:
    """Find the cases that lack channels which ``dataset.json`` names; where all have one, that is enough to train."""
    known = [case for case in cases if case.size]
    only_one = all(case.channels == 1 for case in known)
    for case in known:
        if only_one and channel:
            text = f"dataset.json says to use the channel {channel}, but all images have one channel, 0."
        elif not only_one and 1 < channels != case.channels:
            text = f"the image has {case.channels}, but dataset.json names {channels}."
        else:
            continue
        case.findings.append(Finding("number of channels", text, is_error=True))


def _find_odd_spacings(cases: Sequence[CaseFacts]) -> None:
    known = [(case, case.spacing) for case in cases if case.spacing]
    if not known:
        return
    spacings = np.array([spacing for _, spacing in known])
    odd = np.any([find_outliers(axis, SPACING_FACTOR) for axis in spacings.T.tolist()], axis=0)
    usual = _times(np.median(spacings, axis=0).tolist())
    for case, spacing in (pair for pair, is_odd in zip(known, odd, strict=True) if is_odd):
        text = f"voxels of {_times(spacing)} mm, where the median of all cases is {usual} mm."
        case.findings.append(Finding("odd spacing", text))


def _find_odd_volumes(name: str, cases: Sequence[CaseFacts]) -> None:
    """Find the cases that have much more or less of a class than the others, or none where nearly all have some."""
    labelled = [case for case in cases if case.volumes_ml]
    present = [case for case in labelled if case.volumes_ml[name] > 0]
    volumes = [case.volumes_ml[name] for case in present]
    if len(present) < FEWEST:
        return
    lower, upper = np.percentile(volumes, (25, 75))
    usual = f"half of the cases have {short(lower)} to {short(upper)} ml"
    for case in (case for case, is_odd in zip(present, find_outliers(volumes, VOLUME_FACTOR), strict=True) if is_odd):
        size = "tiny" if case.volumes_ml[name] < lower else "huge"
        case.findings.append(Finding(f"{size} organ", f"{short(case.volumes_ml[name])} ml of {name}; {usual}."))
    if len(present) >= USUAL * len(labelled):
        for case in labelled:
            if not case.volumes_ml[name] and any(case.volumes_ml.values()):
                case.findings.append(Finding("missing organ", f"no voxel of {name}; {usual}."))


def _find_duplicates(cases: Sequence[CaseFacts]) -> None:
    """Find the cases whose image is that of another one, or whose label is that of another image."""
    for case, twins in _twins(cases, "image_hash"):
        text = f"the image has the same voxels as that of {_list(twins)}."
        case.findings.append(Finding("duplicate image", text))
    for case, twins in _twins(cases, "label_hash"):
        if others := [twin for twin in twins if twin.image_hash != case.image_hash]:
            text = f"the label has the same voxels as that of {_list(others)}, another image."
            case.findings.append(Finding("duplicate label", text))


def _twins(cases: Sequence[CaseFacts], entry: str) -> Iterator[tuple[CaseFacts, list[CaseFacts]]]:
    """Yield each case that shares the value of an entry with others, and these."""
    groups = defaultdict(list)
    for case in cases:
        groups[getattr(case, entry)].append(case)
    for case in cases:
        twins = [twin for twin in groups[getattr(case, entry)] if twin is not case]
        if getattr(case, entry) and twins:
            yield case, twins


def _find_exchanged_sides(cases: Sequence[CaseFacts]) -> None:
    for left, right in pair_sides(dict.fromkeys(chain.from_iterable(case.places_mm for case in cases))):
        for case in cases:
            if left in case.places_mm and right in case.places_mm:
                apart = case.places_mm[left] - case.places_mm[right]
                if apart > max(case.spacing or (1,)):  # nearer than a voxel, the names say little
                    text = (
                        f"{left} lies {apart:.0f} mm to the right of {right}: "
                        "the classes are exchanged, or the scan is mirrored."
                    )
                    case.findings.append(Finding("left and right exchanged", text))


def _times(lengths: Sequence[float]) -> str:
    return " x ".join(map(short, lengths))


def _list(cases: Sequence[CaseFacts]) -> str:
    names = ", ".join(case.name for case in cases[:LISTED])
    return names + (f" and {len(cases) - LISTED} more" if len(cases) > LISTED else "")
