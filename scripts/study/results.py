"""What the finished cells of a study say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from med3d_components.handlers.drawing import EPOCH_COLUMNS
from scripts.study.cells import last_line
from scripts.study.inits import SCRATCH_RATES

__all__ = ["Result", "list_pretrainings", "list_unfinished", "list_warnings", "read_results", "study_rows", "tabulate"]


@dataclass(frozen=True)
class Result:
    """One finished training.

    Attributes:
        facts: what the plan said of it.
        settings: of the bundle.
        seconds: of the whole run, validations and start included.
        machine: that it ran on.
        curve: iteration and score of each validation.
        last: loss and all scores of the last validation.
        cases: score of each validation case at the end: its mean Dice, or 1 if it is classified rightly and 0 if not.
    """

    facts: Mapping[str, Any]
    settings: Mapping[str, Any]
    seconds: float
    machine: Mapping[str, str]
    curve: tuple[tuple[int, float], ...]
    last: Mapping[str, float]
    cases: Mapping[str, float]

    @property
    def group(self) -> tuple[str, float, str]:
        """Return network, share and init: all but the seed."""
        return self.facts["network"], self.facts["share"], self.facts["init"]

    @property
    def peers(self) -> tuple[str, float, int]:
        """Return network, share and seed: what may be compared pairwise."""
        return self.facts["network"], self.facts["share"], self.facts["seed"]

    @property
    def best(self) -> float:
        """Return the best score of a validation."""
        return max(score for _, score in self.curve)

    @property
    def end(self) -> float:
        """Return the score after the last iteration."""
        return self.curve[-1][1]

    def iterations_to(self, score: float) -> int | None:
        """Return the iterations until the first validation that reaches a score, None if none does."""
        return next((iteration for iteration, found in self.curve if found >= score), None)


def read_results(out: Path) -> list[Result]:
    """Read the finished cells of the comparison, in the order of tables."""
    results = (_read_result(folder) for folder in _done(out, "comparison"))
    return sorted((result for result in results if result), key=_order)


def tabulate(results: Sequence[Result]) -> pd.DataFrame:
    """Return a row per training: all scores of the last validation, settings, facts, and best, end and seconds."""
    rows = []
    for result in results:
        row = {**result.last, **result.settings, **result.facts}
        rows.append(row | {"best": result.best, "end": result.end, "seconds": result.seconds})
    return pd.DataFrame(rows)


def list_pretrainings(out: Path) -> list[dict[str, Any]]:
    """Return the facts of the finished pre-trainings."""
    return [_read_json(folder / "done.json")["facts"] for folder in _done(out, "pre-training")]


def list_unfinished(out: Path) -> list[tuple[str, str]]:
    """Return name and last words of the cells that were started and have no result."""
    begun = [path.parent for path in sorted(out.glob("cells/*/cell.json"))]
    stopped = [(path.name, last_line(path / "log.txt")) for path in begun if not (path / "done.json").is_file()]
    diverged = [folder.name for folder in _done(out, "comparison") if not _read_result(folder)]
    return [*stopped, *((name, "ended without a score, as a training does that diverged") for name in diverged)]


def list_warnings(out: Path) -> list[str]:
    """Return what the trainings warned of, each once: that weights may have seen the data, for example."""
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in out.glob("cells/*/log.txt"))
    found = (
        match for text in texts for match in re.findall(r"^\S+ \S+ WARNING med3d_components\S*: (.*)$", text, re.M)
    )
    return sorted(set(found))


def study_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per cell for ``study.csv``, with the iterations and seconds until scratch's best score.

    The factor is scratch's iterations to its best score divided by those of the cell to the same score, with the same
    network, share and seed. It is empty where the cell never reaches that score.
    """
    by_init = {(*result.peers, result.facts["init"]): result for result in results}
    rows = []
    for result in results:
        row = {key: result.facts[key] for key in ("network", "init", "share", "seed")}
        row |= {key: result.facts[key] for key in ("training_cases", "validation_cases", "iterations", "metric")}
        row |= {key: result.settings[key] for key in ("learning_rate", "epochs")}
        row |= {"best": result.best, "best_iteration": result.iterations_to(result.best), "end": result.end}
        row |= {"accuracy_end": result.last["accuracy"]} if "accuracy" in result.last else {}
        row |= {"seconds": round(result.seconds, 1)}
        for name in SCRATCH_RATES:
            if scratch := by_init.get((*result.peers, name)):
                row |= _convergence(result, scratch, name)
        weights = result.settings["pretrained_weights"]
        row |= {"weights": weights, "sha256": result.settings.get("sha256 of the weights")}
        rows.append(row | {"domains": " ".join(result.facts.get("domains", ()))})
    return rows


def _convergence(result: Result, scratch: Result, name: str) -> dict[str, Any]:
    """Compare how fast two trainings reach the best score of the second one."""
    needed, reached = scratch.iterations_to(scratch.best), result.iterations_to(scratch.best)
    share = reached / result.facts["iterations"] if reached else None
    return {
        f"iterations_to_{name}": reached,
        f"seconds_to_{name}": share and round(share * result.seconds, 1),
        f"factor_to_{name}": needed / reached if needed and reached else None,
    }


def _done(out: Path, role: str) -> list[Path]:
    """Return the folders of the finished cells of a role."""
    files = sorted(out.glob("cells/*/done.json"))
    return [file.parent for file in files if _read_json(file)["facts"]["role"] == role]


def _read_result(folder: Path) -> Result | None:
    """Return the result of a finished cell; None if its last epoch has no score, so that its end is unknown."""
    record = _read_json(folder / "done.json")
    facts, table = record["facts"], _read_table(folder / "eval" / "metrics.csv")
    scores = table.drop(columns=list(EPOCH_COLUMNS[1:-1]), errors="ignore").astype(float)
    last = scores.iloc[-1].dropna().to_dict()
    if facts["metric"] not in last:
        return None
    curve = scores[["epoch", facts["metric"]]].dropna()
    return Result(
        facts=facts,
        settings=record["settings"],
        seconds=record["seconds"],
        machine=record["machine"],
        curve=tuple((int(epoch) * facts["steps"], score) for epoch, score in curve.itertuples(index=False)),
        last=last,
        cases=_score_cases(folder / "eval" / "cases.csv", facts["classes"]).to_dict(),
    )


def _score_cases(path: Path, classes: Sequence[str]) -> pd.Series:
    cases = _read_table(path).set_index("case")
    if "probability" in cases:
        if cases["probability"].isna().any():
            case = cases.index[cases["probability"].isna()][0]
            raise ValueError(f"{path} has no probability of {case}; the network gave none, so train this cell again.")
        return ((cases["label"] == classes[-1]) == (cases["probability"].astype(float) >= 0.5)).astype(float)
    return cases[classes[1:]].astype(float).mean(axis="columns")


def _order(result: Result) -> tuple[Any, ...]:
    network, share, init = result.group
    return _natural(network), -share, init not in SCRATCH_RATES, _natural(init), result.facts["seed"]


def _natural(text: str) -> list[str | int]:
    """Return a key that sorts R10 before R101, and 8 domains before 16."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def _read_table(path: Path) -> pd.DataFrame:
    # As text: a case may be called 007 or NA, and pandas 2 would round the last digit of a score.
    return pd.read_csv(path, dtype=str, keep_default_na=False, na_values="")


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
