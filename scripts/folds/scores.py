"""Scores of all cases of a cross-validated segmentation, each by the network that never saw it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from med3d_components.handlers.drawing import save_figure
from med3d_components.utils import write_json, write_table

__all__ = ["bootstrap_means", "report_dice"]

DRAWS = 1000
MEAN = "mean"


def report_dice(folder: Path, folds: Sequence[Path]) -> None:
    """Write ``cases.csv``, ``scores.json`` and ``dice.png``, and print the means.

    A case that several folds of a user's own validate counts once, with the mean of its scores.

    Args:
        folder: to write to.
        folds: folders of the trainings, in their order.
    """
    settings = json.loads((folds[0] / "models" / "settings.json").read_text(encoding="utf-8"))
    classes = list(settings["classes"][1:])
    tables = []
    for number, fold in enumerate(folds):
        table = pd.read_csv(fold / "eval" / "cases.csv", dtype={"case": str}, keep_default_na=False, na_values=[""])
        tables.append(table[["case", *classes]].assign(fold=number))
    table = pd.concat(tables)[["case", "fold", *classes]].sort_values(["case", "fold"])
    values = table.groupby("case")[classes].mean().to_numpy(dtype=float)
    names = [*classes, MEAN]
    scores = {name: _plain(*found) for name, *found in zip(names, *bootstrap_means(values), strict=True)}
    by_fold = [_plain(mean)["mean"] for mean in (bootstrap_means(t[classes].to_numpy(float))[0][-1] for t in tables)]
    write_table(folder / "cases.csv", table.to_dict("records"))
    write_json(folder / "scores.json", {"cases": len(values), "Dice": scores, "mean Dice of each fold": by_fold})
    _draw(folder / "dice.png", table, scores, classes)
    for name, score in scores.items():
        low, high = score["low"], score["high"]
        text = "in no case" if score["mean"] is None else f"{score['mean']:.3f} ({low:.3f} to {high:.3f})"
        print(f"{name:<24} Dice {text}")


def bootstrap_means(scores: np.ndarray, draws: int = DRAWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the means of classes over cases, and the mean of these, with 95 % percentile intervals over cases.

    Cases are drawn with replacement, each with the scores of all its classes. A class that a case does not have (NaN)
    counts neither for nor against it.

    Args:
        scores: (cases, classes).
        draws: number of resamples.
        seed: of the resamples.

    Returns:
        Means, lower and upper bounds, (classes + 1,) each; NaN for a class that no case has.

    Example:
        >>> mean, low, high = bootstrap_means(np.array([[0.8, 0.5], [0.8, 0.7]]))
        >>> mean.round(2).tolist(), low.round(2).tolist(), high.round(2).tolist()
        ([0.8, 0.6, 0.7], [0.8, 0.5, 0.65], [0.8, 0.7, 0.75])
    """
    drawn = np.random.default_rng(seed).integers(len(scores), size=(draws, len(scores)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|All-NaN slice", RuntimeWarning)
        means, resampled = (np.nanmean(found, axis=-2) for found in (scores, scores[drawn]))
        means, resampled = (np.append(x, np.nanmean(x, axis=-1, keepdims=True), axis=-1) for x in (means, resampled))
        low, high = np.nanpercentile(resampled, (2.5, 97.5), axis=0)
    return means, low, high


def _plain(mean: float, low: float = np.nan, high: float = np.nan) -> dict[str, float | None]:
    """Return numbers as JSON holds them: null for NaN."""
    found = {"mean": mean, "low": low, "high": high}
    return {name: None if np.isnan(value) else float(value) for name, value in found.items()}


def _draw(path: Path, table: pd.DataFrame, scores: dict[str, Any], classes: Sequence[str]) -> None:
    """Draw every case's Dice by class, coloured by fold, and the mean of each class with its interval."""
    figure = Figure(figsize=(max(5, 2 + 1.6 * len(classes)), 4.6), layout="constrained")
    axes = figure.subplots()
    spread = np.random.default_rng(0).uniform(-0.25, 0.25, len(table))
    for index, name in enumerate(classes):
        axes.scatter(index + spread, table[name], c=table["fold"], cmap="viridis", s=12, alpha=0.7)
        if (mean := scores[name]["mean"]) is not None:
            around = [[mean - scores[name]["low"]], [scores[name]["high"] - mean]]
            axes.errorbar(index + 0.38, mean, yerr=around, fmt="o", color="black", capsize=4)
            axes.annotate(f"{mean:.3f}", (index + 0.38, mean), xytext=(5, 0), textcoords="offset points")
    axes.set(xticks=range(len(classes)), xticklabels=classes, ylim=(-0.02, 1.02), ylabel="Dice")
    axes.set_title(f"{table['case'].nunique()} cases, coloured by fold; mean and 95 % interval")
    save_figure(figure, path)
