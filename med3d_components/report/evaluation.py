"""The page of an evaluation: its scores, cases and pictures."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from med3d_components.handlers.pictures import PICTURES
from med3d_components.report.page import embed, short, write_page

__all__ = ["write_evaluation_page"]

Block = dict[str, Any]
Scores = dict[str, float | int | None]

NAMES = ("domain", "case", "set", "patient")
"""Columns that hold no number, whatever it looks like."""
TITLES = {"lesion_detection": "Lesions", "monai": "Surfaces and volumes"}
"""Of metrics whose parts are a table with a row per class."""
LESIONS = (
    "Lesions are components of a class whose voxels touch by faces, edges or corners, matched one to one. Dice per "
    "lesion counts a missed one as 0. A class without a lesion has no sensitivity."
)
CALIBRATION = (
    "How often the network is right, by how sure it is, of the voxels in the box around all foreground. A mean "
    "confidence above the accuracy is overconfidence."
)


def write_evaluation_page(folder: str | os.PathLike[str]) -> Path:
    """Write ``evaluation.html`` from what an evaluation has left in a folder: evaluation.json, tables and pictures.

    Scores that are called ``<metric>/<part>/<class>`` become a table with a row per class.

    Returns:
        The page.

    Raises:
        FileNotFoundError: if there is no evaluation.json.

    Example:
        >>> scores = {"val_mean_dice": 0.8, "lesion_detection": 0.5, "lesion_detection/lesions/tumour": 2}
        >>> Path("evaluation.json").write_text(json.dumps(scores))
        85
        >>> "<td>tumour</td><td>2</td>" in write_evaluation_page(".").read_text(encoding="utf-8")
        True
    """
    folder = Path(folder)
    by_class, plain = _sort(json.loads((folder / "evaluation.json").read_text(encoding="utf-8")))
    blocks = [_heading("Scores"), _table(("score", "value"), ((name, _text(value)) for name, value in plain.items()))]
    for metric, classes in by_class.items():
        parts = dict.fromkeys(part for row in classes.values() for part in row)
        rows = ((name, *(_text(row.get(part)) for part in parts)) for name, row in classes.items())
        notes = [{"kind": "text", "text": LESIONS}] if metric == "lesion_detection" else []
        blocks += [_heading(TITLES.get(metric, metric)), *notes, _table(("class", *parts), rows)]
    for path in [*sorted(folder.glob("calibration.csv")), *sorted(folder.glob("cases*.csv"))]:
        notes = [{"kind": "text", "text": CALIBRATION}] if path.stem == "calibration" else []
        blocks += [_heading(path.name), *notes, _read_table(path)]
    for path in [folder / name for name in PICTURES if (folder / name).is_file()]:
        picture = {"kind": "picture", "text": path.stem, "source": embed(path.read_bytes(), "png")}
        blocks += [_heading(path.name), picture]
    page = folder / "evaluation.html"
    write_page(page, "document.html.j2", title="Evaluation", blocks=blocks)
    return page


def _sort(scores: Scores) -> tuple[dict[str, dict[str, Scores]], Scores]:
    """Return metric to class to part to score, and the scores that are of no class."""
    by_class: dict[str, dict[str, Scores]] = {}
    plain: Scores = {}
    for name, value in scores.items():
        metric, *rest = name.split("/", 2)
        if len(rest) == 2 and metric in scores:
            by_class.setdefault(metric, {}).setdefault(rest[1], {})[rest[0]] = value
        else:
            plain[name] = value
    return by_class, plain


def _heading(text: str) -> Block:
    return {"kind": "heading", "text": text}


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Block:
    return {"kind": "table", "header": header, "rows": list(rows)}


def _read_table(path: Path) -> Block:
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    return _table(header, ([_shortened(*pair) for pair in zip(header, line, strict=True)] for line in lines))


def _text(value: float | int | None) -> str:
    return "" if value is None else short(value)


def _shortened(column: str, cell: str) -> str:
    """Return a cell of a table, a number with three digits unless it is part of a name."""
    try:
        return cell if column in NAMES or "." not in cell else short(float(cell))
    except ValueError:
        return cell
