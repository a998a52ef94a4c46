"""A page and a table that show each case of a data set, and say what is wrong with it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from med3d_components.prepare.comparison import compare_cases, group_findings, unused_classes
from med3d_components.prepare.data_page import page_content
from med3d_components.prepare.inspection import CaseFacts, Finding, inspect_case
from med3d_components.prepare.listing import DataFolder, Item, list_data
from med3d_components.report import write_page
from med3d_components.utils import write_table
from med3d_components.utils.machine import default_workers

__all__ = ["DataReport", "write_data_report"]

MOST_WORKERS = 4
"""Each holds a whole image and its label."""
LISTED = 5
"""Names that a line on the screen has."""


class DataReport(NamedTuple):
    """What was found, and where it is written."""

    path: Path
    name: str
    cases: list[CaseFacts]
    unused: list[str]

    @property
    def has_errors(self) -> bool:
        """Whether a case cannot be used."""
        return any(case.state == "error" for case in self.cases)

    def __str__(self) -> str:
        """Return a few lines for the screen; the last one tells where the report is."""
        states = [case.state for case in self.cases]
        errors, warnings = states.count("error"), states.count("warning")
        lines = [f"{self.name}: {_count(len(states))}, {errors} with errors, {warnings} with warnings."]
        lines += [
            f"  {kind}, {_count(len(found))}: {_names(found)}" for kind, found in group_findings(self.cases).items()
        ]
        lines += [f"  no voxel in any case: {', '.join(self.unused)}"] if self.unused else []
        return "\n".join([*lines, f"Report: {self.path}"])


def write_data_report(folder: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> DataReport:
    """Look at each case of a data set, and write report.html and cases.csv.

    A case that cannot be read, or whose label does not belong to it, is a row with the reason. Each file is read once.

    Args:
        folder: of the data, see :func:`list_data`.
        out: for the report; by default ``report`` in the folder.

    Raises:
        FileNotFoundError, ValueError: if the folder holds no such data.

    Example:
        >>> print(write_data_report("3DSeg-8/Task09_Spleen"))
        Task09_Spleen: 4 cases, 0 with errors, 0 with warnings.
        Report: 3DSeg-8/Task09_Spleen/report/report.html
    """
    data = list_data(folder)
    out = Path(out or data.folder / "report")
    out.mkdir(parents=True, exist_ok=True)  # before hours of reading, not after them
    cases = _inspect(data)
    compare_cases(cases, data.modality, data.channels, data.channel)
    report = DataReport(out / "report.html", data.folder.resolve().name, cases, unused_classes(data.classes, cases))
    write_table(out / "cases.csv", [_row(case) for case in cases])
    write_page(report.path, "data.html.j2", **page_content(data, cases))
    return report


def _inspect(data: DataFolder) -> list[CaseFacts]:
    def inspect(item: Item) -> CaseFacts:
        facts = inspect_case(item, data.classes, data.channel)
        facts.findings = [Finding(kind, _hide(text, data, item), is_error) for kind, text, is_error in facts.findings]
        return facts

    with ThreadPoolExecutor(min(MOST_WORKERS, default_workers())) as pool:
        found = pool.map(inspect, data.items)
        return list(tqdm(found, total=len(data.items), desc=data.folder.resolve().name, unit="case"))


def _hide(text: str, data: DataFolder, item: Item) -> str:
    """Leave out of a reason what lies above the data's folder."""
    files = [Path(path) for path in (*item.images, item.label) if path]
    outside = [path.parent for path in files if not path.is_relative_to(data.folder)]
    for place in (data.folder, data.folder.resolve(), *outside):
        text = text.replace(f"{place}/", "")
    return text


def _row(case: CaseFacts) -> dict[str, Any]:
    """Return the row of a case in cases.csv."""
    axes = ("left-right", "posterior-anterior", "inferior-superior")
    nothing = [math.nan] * 3
    return {
        "case": case.name,
        "state": case.state,
        **{f"voxels {axis}": value for axis, value in zip(axes, case.size or nothing, strict=True)},
        **{f"mm {axis}": round(value, 6) for axis, value in zip(axes, case.spacing or nothing, strict=True)},
        "orientation": case.orientation,
        "channels": case.channels if case.size else math.nan,
        **dict(zip(("minimum", "1 %", "99 %", "maximum"), case.intensities or [math.nan] * 4, strict=True)),
        **{f"{name} ml": round(volume, 6) for name, volume in case.volumes_ml.items()},
        "findings": " ".join(f"{each.kind}: {each.text}" for each in case.findings),
    }


def _count(number: int) -> str:
    return f"{number} case" if number == 1 else f"{number} cases"


def _names(cases: Sequence[CaseFacts]) -> str:
    return ", ".join(case.name for case in cases[:LISTED]) + (", ..." if len(cases) > LISTED else "")
