"""The code of ``scripts/accuracy_study.py``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from med3d_components.utils import write_table
from scripts.accuracy.data import write_data
from scripts.accuracy.plan import Trial, plan
from scripts.study.cells import Cell, run_cells

__all__ = ["report", "run"]

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "lung_segmentation"
RESULTS = ROOT / "docs" / "accuracy" / "results.csv"


def run(data_dir: str, out: str, groups: str | Sequence[str] | None = None, results: str | None = None) -> None:
    """Train what is not trained yet, and add the scores to the table after each training.

    Args:
        data_dir: holds Task04_Hippocampus and sarcoma/.
        out: folder for the trainings.
        groups: names of groups, joined by commas; by default all, in the order of the plan.
        results: the table, by default docs/accuracy/results.csv.
    """
    wanted = [name.strip() for name in groups.split(",")] if isinstance(groups, str) else groups
    trials = [trial for trial in plan() if wanted is None or trial.group in wanted]
    if not trials:
        names = ", ".join(dict.fromkeys(trial.group for trial in plan()))
        raise ValueError(f"groups is {groups}, but must be among {names}.")
    folder = Path(out)
    places = write_data(Path(data_dir), folder / "data")
    for trial in trials:
        run_cells([make_cell(trial, *places[trial.data])], folder)
        report(out, results)


def report(out: str, results: str | None = None) -> None:
    """Write the table of all trainings that have ended; rows of trainings that lie elsewhere stay.

    Args:
        out: folder of the trainings.
        results: the table, by default docs/accuracy/results.csv.
    """
    path = Path(results) if results else RESULTS
    before = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") if path.is_file() else []
    rows = {(row["cell"], row["step"]): row for row in before}
    for trial in plan():
        for row in scores(trial, Path(out) / "cells" / trial.cell):
            rows[row["cell"], row["step"]] = row
    order = {trial.cell: number for number, trial in enumerate(plan())}
    write_table(path, sorted(rows.values(), key=lambda row: (order[row["cell"]], int(row["step"]))))


def make_cell(trial: Trial, data: Path, splits: Path) -> Cell:
    """Return the training of a trial.

    Args:
        trial: of the plan.
        data: folder of its data.
        splits: its splits_final.json.
    """
    folds = json.loads(splits.read_text(encoding="utf-8"))
    epochs = trial.epochs(len(folds[trial.fold]["train"]))
    options = {
        **{"pretrained_weights": "none", "num_workers": 0, "checkpoint_minutes": 5},
        **trial.options,
        **{"epochs": epochs, "val_interval": epochs // trial.validations, "seed": trial.seed},
        **{"dataset_dir": str(data), "split_file": str(splits), "fold": trial.fold},
    }
    configs = [ROOT / "scripts" / "accuracy" / "basic_unet.json"] if trial.network == "basic_unet" else []
    return Cell(trial.cell, BUNDLE, options, configs=tuple(configs))


def scores(trial: Trial, folder: Path) -> list[dict[str, str]]:
    """Return a row for each validation of a trial; none where it has not ended.

    Args:
        trial: of the plan.
        folder: of its training.
    """
    if not (folder / "done.json").is_file():
        return []
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    table = pd.read_csv(folder / "eval" / "metrics.csv")
    table = table[table["val_mean_dice"].notna()]
    last = int(table["step"].iloc[-1])
    classes = list(table.columns)[list(table.columns).index("val_mean_dice") + 1 :]
    return [
        {
            "group": trial.group,
            "name": trial.name,
            "network": trial.network,
            "data": trial.data,
            "fold": str(trial.fold),
            "seed": str(trial.seed),
            "step": str(int(row["step"])),
            "minutes": f"{trial.minutes * row['step'] / last:.1f}",
            "mean_dice": f"{row['val_mean_dice']:.4f}",
            "classes": json.dumps({name: round(row[name], 4) for name in classes}),
            "seconds_with_validations": f"{done['seconds']:.0f}",
            "machine": f"{done['machine']['processor']}, {done['machine']['precision']}",
            "options": shlex.join(f"--{key}={value}" for key, value in done["settings"].items() if key in _told(trial)),
            "cell": trial.cell,
        }
        for _, row in table.iterrows()
    ]


def _told(trial: Trial) -> set[str]:
    return {*trial.options, "epochs", "seed", "fold"}
