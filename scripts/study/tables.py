"""The tables of a study, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd

from scripts.study.inits import SCRATCH_RATES
from scripts.study.paper import COLUMNS, PAPER, paper_column
from scripts.study.results import Result, tabulate
from scripts.study.statistics import Comparison, Paired, smallest_p

__all__ = ["Table", "comparison_table", "convergence_table", "paper_table", "score_table"]

Table = tuple[Sequence[str], list[list[str]]]
"""Header and rows."""

NONE = "-"


def paper_table(results: Sequence[Result], bundle: str) -> Table | None:
    """Return the table of the paper's shape: its numbers, and beside them ours at the end of the largest share.

    None if the paper has no such experiment.
    """
    paper = PAPER.get(bundle)
    if paper is None:
        return None
    table = tabulate(results)
    chosen = table[table["share"] == table["share"].max()]
    inits = dict(zip(chosen["init"], chosen["pretrained_weights"], strict=True))
    beside = {column: [init for init in inits if paper_column(init, inits[init]) == column] for column in COLUMNS}
    others = [init for init in inits if paper_column(init, inits[init]) is None]
    header = ["Network"]
    for column in COLUMNS:
        header += [f"{column}, paper", *(f"{init}, ours" for init in beside[column])]
    rows = []
    for network, group in chosen.groupby("network", sort=False):
        row, printed = [network], paper.rows.get(network, (None,) * len(COLUMNS))
        for column, number in zip(COLUMNS, printed, strict=True):
            row.append(NONE if number is None else f"{number:.2f}")
            row += [_percent(group, init, paper.column) for init in beside[column]]
        rows.append(row + [_percent(group, init, paper.column) for init in others])
    return [*header, *(f"{init}, ours" for init in others)], rows


def score_table(results: Sequence[Result]) -> Table:
    """Return best and last score of each network, share and initialisation, over seeds."""
    header = ("Network", "Share", "Training cases", "Init", "Rate", "Seeds", "Best", "End", "Iterations", "Time")
    rows = []
    for (network, share, init), group in tabulate(results).groupby(["network", "share", "init"], sort=False):
        first = group.iloc[0]
        rows.append(
            [
                *(network, _share(share), str(first["training_cases"]), init, f"{first['learning_rate']:g}"),
                *(str(len(group)), _spread(group["best"]), _spread(group["end"])),
                *(str(first["iterations"]), _time(group["seconds"].mean())),
            ]
        )
    return header, rows


def convergence_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return how much sooner than scratch each initialisation reaches scratch's best score.

    Args:
        rows: of ``study.csv``.
    """
    references = [name for name in SCRATCH_RATES if any(f"factor_to_{name}" in row for row in rows)]
    header = ["Network", "Share", "Init"]
    for name in references:
        header += [f"Reached best of {name}", "Iterations", "Time", "Factor"]
    groups: dict[tuple[str, float, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["share"], row["init"]), []).append(row)
    table = []
    for (network, share, init), group in groups.items():
        cells = [cell for name in references for cell in _convergence_cells(group, init, name)]
        table.append([network, _share(share), init, *cells])
    return header, table


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Return the paired comparisons."""
    header = ["Network", "Share", "First minus second", "Seeds", "Difference (95 % interval)", "p (smallest possible)"]
    header += ["Cases", "Difference (95 % interval)", "p", "Reading"]
    rows = []
    for one in comparisons:
        least = smallest_p(len(one.seeds.differences))
        seeds = [str(len(one.seeds.differences)), _difference(one.seeds), f"{_p(one.seeds.p)} ({least:.2g})"]
        cases = [str(len(one.cases.differences)), _difference(one.cases), _p(one.cases.p)]
        rows.append([one.network, _share(one.share), f"{one.first} - {one.second}", *seeds, *cases, one.verdict])
    return header, rows


def _convergence_cells(group: Sequence[Mapping[str, Any]], init: str, name: str) -> list[str]:
    """Return how many seeds reach a scratch's best score, and medians of those that do."""
    compared = [row for row in group if f"factor_to_{name}" in row]
    if init == name or not compared:
        return [NONE] * 4 if init != name else ["itself", *_medians(compared, name)]
    reached = [row for row in compared if row[f"factor_to_{name}"] is not None]
    return [f"{len(reached)} of {len(compared)} seeds", *_medians(reached, name)]


def _medians(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    if not rows:
        return [NONE, NONE, "never reached"]
    iterations, seconds, factor = (
        median(row[f"{key}_to_{name}"] for row in rows) for key in ("iterations", "seconds", "factor")
    )
    return [f"{iterations:g}", _time(seconds), f"{factor:.2g}"]


def _percent(trainings: pd.DataFrame, init: str, column: str) -> str:
    found = trainings[trainings["init"] == init].reindex(columns=[column])
    return _spread(100 * found[column], 2) if len(found) else NONE


def _spread(scores: pd.Series, digits: int = 3) -> str:
    """Return the mean, and the standard deviation if there is one."""
    spread = f" ± {scores.std():.{digits}f}" if len(scores) > 1 else ""
    return f"{scores.mean():.{digits}f}{spread}"


def _difference(paired: Paired) -> str:
    if not paired.differences:
        return NONE
    interval = NONE if math.isnan(paired.low) else f"{paired.low:+.3f} to {paired.high:+.3f}"
    return f"{paired.mean:+.3f} ({interval})"


def _p(p: float) -> str:
    return NONE if math.isnan(p) else f"{p:.2g}"


def _share(share: float) -> str:
    return f"{100 * share:g} %"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
