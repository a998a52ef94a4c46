"""A page and a table that show each case of a data set, and say what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from med3d_components.masks.classes import class_color
from med3d_components.prepare.comparison import compare_cases, unused_classes
from med3d_components.prepare.inspection import CaseFacts, Finding, inspect_case
from med3d_components.prepare.listing import DataFolder, Item, list_data
from med3d_components.report import embed, short, write_page
from med3d_components.utils import write_table
from med3d_components.utils.machine import default_workers

__all__ = ["DataReport", "write_data_report"]

LISTED = 5
"""Names that a line on the screen has."""
COLUMNS = 12
"""Classes that the page's table has columns for; cases.csv has all."""
BARS = 20
"""Of the histogram of a class."""
HEADER = ("case", "orientation", "voxels", "mm", "intensities", "1 to 99 %")
NOTHING = ("", "")


class DataReport(NamedTuple):
    """What was found, and where it is written."""

    path: Path
    name: str
    cases: list[CaseFacts]
    unused: list[str]

    @property
    def has_errors(self) -> bool:
        """Whether a case cannot be used."""
        return any(case.is_broken for case in self.cases)

    @property
    def kinds(self) -> dict[str, list[CaseFacts]]:
        """Each kind of finding with its cases, errors first."""
        found: dict[str, list[CaseFacts]] = {}
        for level in (True, False):
            for case in self.cases:
                for kind in dict.fromkeys(each.kind for each in case.findings if each.is_error == level):
                    found.setdefault(kind, []).append(case)
        return found

    def __str__(self) -> str:
        """Return a few lines for the screen; the last one tells where the report is."""
        broken = sum(case.is_broken for case in self.cases)
        doubtful = sum(bool(case.findings) for case in self.cases) - broken
        lines = [f"{self.name}: {_count(len(self.cases))}, {broken} with errors, {doubtful} with warnings."]
        lines += [f"  {kind}, {_count(len(cases))}: {_names(cases)}" for kind, cases in self.kinds.items()]
        lines += [f"  no voxel in any case: {', '.join(self.unused)}"] if self.unused else []
        return "\n".join([*lines, f"Report: {self.path}"])


def write_data_report(folder: Path, out: Path | None = None) -> DataReport:
    """Look at each case of a data set, and write report.html and cases.csv.

    A case that cannot be read, or whose label does not belong to it, is a row with the reason. Each file is read once.

    Args:
        folder: of the data, see :func:`list_data`.
        out: for the report; by default ``report`` in the folder.

    Raises:
        FileNotFoundError, ValueError: if the folder holds no such data.

    Example:
        >>> print(write_data_report(Path("3DSeg-8/Task09_Spleen")))
        Task09_Spleen: 4 cases, 0 with errors, 0 with warnings.
        Report: 3DSeg-8/Task09_Spleen/report/report.html
    """
    data = list_data(folder)
    out = out or folder / "report"
    out.mkdir(parents=True, exist_ok=True)  # before hours of reading, not after them
    cases = _inspect(data)
    compare_cases(cases, data.modality)
    report = DataReport(out / "report.html", folder.resolve().name, cases, unused_classes(data.classes, cases))
    write_table(out / "cases.csv", [_row(case) for case in cases])
    write_page(report.path, "data.html.j2", **_content(report, data))
    return report


def _inspect(data: DataFolder) -> list[CaseFacts]:
    def inspect(item: Item) -> CaseFacts:
        facts = inspect_case(item, data.classes, data.channel)
        facts.findings = [Finding(kind, _hide(text, data, item), is_error) for kind, text, is_error in facts.findings]
        return facts

    with ThreadPoolExecutor(default_workers()) as pool:
        found = pool.map(inspect, data.items)
        return list(tqdm(found, total=len(data.items), desc=data.folder.resolve().name, unit="case"))


def _hide(text: str, data: DataFolder, item: Item) -> str:
    """Leave out of a reason what lies above the data's folder."""
    places = {data.folder, data.folder.resolve(), *(Path(path).parent for path in (item.image, item.label) if path)}
    for place in sorted(map(str, places)):
        text = text.replace(f"{place}/", "")
    return text


def _row(case: CaseFacts) -> dict[str, Any]:
    """Return the row of a case in cases.csv."""
    axes = ("left-right", "posterior-anterior", "inferior-superior")
    nothing = [math.nan] * 3
    return {
        "case": case.name,
        "state": _state(case),
        **{f"voxels {axis}": value for axis, value in zip(axes, case.size or nothing, strict=True)},
        **{f"mm {axis}": round(value, 6) for axis, value in zip(axes, case.spacing or nothing, strict=True)},
        "orientation": case.orientation,
        "channels": case.channels if case.size else math.nan,
        **dict(zip(("minimum", "1 %", "99 %", "maximum"), case.intensities or [math.nan] * 4, strict=True)),
        **{f"{name} ml": round(volume, 6) for name, volume in case.volumes_ml.items()},
        "findings": " ".join(f"{each.kind}: {each.text}" for each in case.findings),
    }


def _state(case: CaseFacts) -> str:
    return "error" if case.is_broken else "warning" if case.findings else "good"


def _content(report: DataReport, data: DataFolder) -> dict[str, Any]:
    """Return what the page shows."""
    columns = data.classes[1:] if len(data.classes) <= COLUMNS else ()
    cases = [_case(number, case, data.classes, columns) for number, case in enumerate(report.cases)]
    shown = {id(case): view for case, view in zip(report.cases, cases, strict=True)}
    return {
        "title": f"Data report: {report.name}",
        "facts": _overview(report, data),
        "kinds": {kind: [shown[id(case)] for case in found] for kind, found in report.kinds.items()},
        "unused": report.unused,
        "classes": [_class(value, name, report.cases) for value, name in enumerate(data.classes) if value],
        "header": [*HEADER, *(f"{name} ml" for name in columns), "findings"],
        "cases": cases,
    }


def _case(number: int, case: CaseFacts, classes: Sequence[str], columns: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows of a case; a cell is a text, and what its column is sorted by."""
    size, found = case.size, case.intensities
    channels = f" x {case.channels}" if case.channels > 1 else ""
    cells: list[tuple[str, float | str]] = [
        (" x ".join(map(str, size)) + channels, math.prod(size)) if size else NOTHING,
        (" x ".join(map(short, case.spacing)), math.prod(case.spacing)) if case.spacing else NOTHING,
        (f"{short(found.lowest)} to {short(found.highest)}", found.highest) if found else NOTHING,
        (f"{short(found.low)} to {short(found.high)}", found.high) if found else NOTHING,
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


def _overview(report: DataReport, data: DataFolder) -> list[tuple[str, str]]:
    states = [_state(case) for case in report.cases]
    sizes = np.array([case.size for case in report.cases if case.size])
    spacings = np.array([case.spacing for case in report.cases if case.spacing])
    facts = [("cases", str(len(states))), ("with errors", str(states.count("error")))]
    facts += [("with warnings", str(states.count("warning")))]
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
        "cells": [
            *((str(n), n) for n in (value, len(volumes))),
            *(((short(ml), ml) for ml in middle) if middle else [NOTHING] * 3),
        ],
        "bars": [count / max(counts) for count in counts],
    }


def _color(value: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*class_color(value))


def _count(number: int) -> str:
    return f"{number} case" if number == 1 else f"{number} cases"


def _names(cases: Sequence[CaseFacts]) -> str:
    return ", ".join(case.name for case in cases[:LISTED]) + (", ..." if len(cases) > LISTED else "")
