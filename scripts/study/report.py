"""Tables, pictures and a report of what is finished of a study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from med3d_components.utils import write_table
from scripts.study.document import Document
from scripts.study.paper import PAPER
from scripts.study.pictures import draw_learning_bands, draw_shares
from scripts.study.results import (
    Result,
    list_pretrainings,
    list_unfinished,
    list_warnings,
    read_results,
    study_rows,
    tabulate,
)
from scripts.study.statistics import Comparison, compare_inits
from scripts.study.tables import comparison_table, convergence_table, paper_table, score_table
from scripts.study.texts import BESIDE, BUDGET, CLINICAL, CONVERGENCE, RATES, READING, SYNTHETIC

__all__ = ["write_report"]


def write_report(out: Path) -> None:
    """Write study.csv, study.md, curves.png, shares.png and report.html of the finished trainings.

    Args:
        out: folder of the study.

    Raises:
        FileNotFoundError: if there is no study in it.
        ValueError: if no training of it is finished.
    """
    if not (out / "study.json").is_file():
        raise FileNotFoundError(f"{out / 'study.json'} does not exist; give the folder of a study by --out.")
    study = json.loads((out / "study.json").read_text(encoding="utf-8"))
    results = read_results(out)
    if not results:
        raise ValueError(f"{out} has no finished training yet; logs are in {out / 'cells'}.")
    rows = study_rows(results)
    write_table(out / "study.csv", rows)
    _draw(out, results)
    document = Document(f"Transfer study: {study['bundle']} on {Path(study['dataset_dir']).name}")
    drawn = [Path(part["dataset_dir"]).name for part in (study, study.get("pre-training", {})) if part.get("synthetic")]
    document.note(f"{SYNTHETIC.format(names=' and '.join(drawn))} {CLINICAL}" if drawn else CLINICAL)
    document.table(("What", "Value"), _about(study, results, out))
    _add_scores(document, out, study["bundle"], results)
    document.heading("Convergence")
    document.text(CONVERGENCE)
    document.table(*convergence_table(rows))
    _add_comparisons(document, compare_inits(results))
    _add_pretrainings(document, list_pretrainings(out))
    _add_rest(document, list_unfinished(out), list_warnings(out))
    document.write(out, "study.md", "report.html")


def _about(study: Mapping[str, Any], results: Sequence[Result], out: Path) -> list[list[str]]:
    facts = results[0].facts
    machines = {", ".join(f"{key} {value}" for key, value in result.machine.items()) for result in results}
    lines = {
        "Data": Path(study["dataset_dir"]).name,
        "sha256 of dataset.json": str(study["sha256 of dataset.json"]),
        "Validation cases": f"{facts['validation_cases']}, the same for all (split_seed {study['split_seed']})",
        "Seeds": ", ".join(map(str, sorted({result.facts["seed"] for result in results}))),
        "Budget": f"{study['epochs']} epochs of all training cases, validated every {study['val_interval']}",
        "Trainings": f"{len(results)} finished, {len(list_unfinished(out))} not",
        "Machine and versions": "; ".join(sorted(machines)),
    }
    lines["Further options"] = _options(study)
    if before := study.get("pre-training"):
        domains = f"{before['epochs']} epochs of all domains in {Path(before['dataset_dir']).name}"
        lines["Pre-training"] = f"{domains}; further options: {_options(before)}"
    return [[key, value] for key, value in lines.items()]


def _options(part: Mapping[str, Any]) -> str:
    return json.dumps(part["options"]) if part["options"] else "none"


def _add_scores(document: Document, out: Path, bundle: str, results: Sequence[Result]) -> None:
    table = paper_table(results, bundle)
    if table:
        share = max(result.facts["share"] for result in results)
        document.heading(f"Beside the paper: {PAPER[bundle].score}, {100 * share:g} % of the training cases")
        document.text(f"{PAPER[bundle].title}. {BESIDE}")
        document.table(*table)
    document.heading(f"Scores: {results[0].facts['metric']}")
    document.text(f"{BUDGET} {RATES}")
    document.table(*score_table(results))
    document.picture(out / "curves.png", "Learning curves: mean over seeds, band from the lowest to the highest")
    document.picture(out / "shares.png", "Score at the end against the share of the training cases; a dot per seed")


def _add_comparisons(document: Document, comparisons: Sequence[Comparison]) -> None:
    document.heading("Paired comparisons")
    document.text(READING)
    document.table(*comparison_table(comparisons))


def _add_pretrainings(document: Document, pretrainings: Sequence[Mapping[str, Any]]) -> None:
    if not pretrainings:
        return
    document.heading("Pre-trainings")
    document.text("Each seed draws its own order of the domains. The paper says that eight are best, and no numbers.")
    rows = [
        [str(facts["seed"]), str(len(facts["domains"])), ", ".join(facts["domains"]), str(facts["iterations"])]
        for facts in pretrainings
    ]
    document.table(("Seed", "Domains", "Names", "Iterations"), rows)


def _add_rest(document: Document, unfinished: Sequence[tuple[str, str]], warnings: Sequence[str]) -> None:
    if unfinished:
        document.heading("Without a result")
        document.text("Failed, stopped, diverged, or still running. The log is log.txt in the folder of that name.")
        document.table(("Training", "Last words"), [list(pair) for pair in unfinished])
    if warnings:
        document.heading("The trainings warned")
        document.table(("Warning",), [[warning] for warning in warnings])


def _draw(out: Path, results: Sequence[Result]) -> None:
    curves = []
    for result in results:
        cases = f"{100 * result.facts['share']:g} % of the cases ({result.facts['training_cases']})"
        curves += [{**result.facts, "cases": cases, "iteration": at, "score": score} for at, score in result.curve]
    metric = str(results[0].facts["metric"])
    draw_learning_bands(out / "curves.png", pd.DataFrame(curves), metric)
    draw_shares(out / "shares.png", tabulate(results), f"{metric} at the end")
