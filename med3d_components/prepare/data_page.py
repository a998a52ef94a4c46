"""What the page of a data report shows, in the words and numbers of its template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from med3d_components.masks.classes import class_color
from med3d_components.prepare.comparison import group_findings, unused_classes
from med3d_components.prepare.inspection import CaseFacts
from med3d_components.prepare.listing import DataFolder
from med3d_components.report import embed, short

__all__ = ["page_content"]

COLUMNS = 12
"""Classes that the table of cases has columns for; cases.csv has all."""
BARS = 20
"""Of the histogram of a class."""
NUMBERS = ("voxels", "mm", "intensities", "1 to 99 %")
Cell = tuple[str, float | str]
"""What is read, and what its column is sorted by."""
NOTHING: Cell = ("", "")


def page_content(data: DataFolder, cases: Sequence[CaseFacts]) -> dict[str, Any]:
    """Return what ``data.html.j2`` asks for.

    Args:
        data: the data set.
        cases: what is known of its cases.

    Example:
        >>> from med3d_components.prepare.listing import list_data
        >>> page_content(list_data("3DSeg-8/Task09_Spleen"), [CaseFacts("a")])["facts"]
        [('cases', '1'), ('with errors', '0'), ('with warnings', '0')]
    """
    columns = data.classes[1:] if len(data.classes) <= COLUMNS else ()
    shown = [_case(number, case, data.classes, columns) for number, case in enumerate(cases)]
    of_case = {id(case): view for case, view in zip(cases, shown, strict=True)}
    return {
        "title": f"Data report: {data.folder.resolve().name}",
        "facts": _overview(data, cases),
        "kinds": {kind: [of_case[id(case)] for case in found] for kind, found in group_findings(cases).items()},
        "unused": unused_classes(data.classes, cases),
        "classes": [_class(value, name, cases) for value, name in enumerate(data.classes) if value],
        "numbers": [*NUMBERS, *(f"{name} ml" for name in columns)],
        "cases": shown,
    }


def _case(number: int, case: CaseFacts, classes: Sequence[str], columns: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows of a case."""
    size, found = case.size, case.intensities
    channels = f" x {case.channels}" if case.channels > 1 else ""
    cells: list[Cell] = [
        (" x ".join(map(str, size)) + channels, math.prod(size)) if size else NOTHING,
        (" x ".join(map(short, case.spacing)), math.prod(case.spacing)) if case.spacing else NOTHING,
        _range(found.lowest, found.highest) if found else NOTHING,
        _range(found.low, found.high) if found else NOTHING,
    ]
    volumes = case.volumes_ml
    cells += [(short(volumes[name]), volumes[name]) if volumes else NOTHING for name in columns]
    present = [(value, name) for value, name in enumerate(classes) if volumes.get(name)]
    legend = [(_color(value), f"{name} {short(volumes[name])} ml") for value, name in present[:COLUMNS]]
    return {
        "number": number,
        "name": case.name,
        "orientation": case.orientation,
        "cells": cells,
        "legend": legend,
        "findings": case.findings,
        "picture": embed(case.picture, "jpeg") if case.picture else "",
    }


def _range(low: float, high: float) -> Cell:
    return f"{short(low)} to {short(high)}", high if math.isfinite(high) else ""


def _overview(data: DataFolder, cases: Sequence[CaseFacts]) -> list[tuple[str, str]]:
    states = [case.state for case in cases]
    sizes = np.array([case.size for case in cases if case.size])
    spacings = np.array([case.spacing for case in cases if case.spacing])
    facts = [("cases", str(len(cases)))]
    facts += [(f"with {state}s", str(states.count(state))) for state in ("error", "warning")]
    if data.modality:
        facts.append(("modality", data.modality))
    if len(sizes):
        facts.append(("voxels, median", " x ".join(f"{length:.0f}" for length in np.median(sizes, axis=0))))
    if len(spacings):
        facts.append(("spacing in mm, median", " x ".join(short(length) for length in np.median(spacings, axis=0))))
    return facts


def _class(value: int, name: str, cases: Sequence[CaseFacts]) -> dict[str, Any]:
    """Return what the page shows of a class."""
    volumes = [case.volumes_ml[name] for case in cases if case.volumes_ml.get(name)]
    middle = [min(volumes), float(np.median(volumes)), max(volumes)] if volumes else []
    cells = [(str(number), number) for number in (value, len(volumes))]
    counts = np.histogram(np.log(volumes), BARS)[0].tolist() if len(set(volumes)) > 1 else []
    return {
        "name": name,
        "color": _color(value),
        "cells": [*cells, *((short(ml), ml) for ml in middle)] if volumes else [*cells, *[NOTHING] * 3],
        "bars": [count / max(counts) for count in counts],
    }


def _color(value: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*class_color(value))
