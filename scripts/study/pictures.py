"""Pictures of a study: learning curves with bands over seeds, and scores against the share of the cases."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from med3d_components.handlers.drawing import save_figure

__all__ = ["draw_learning_bands", "draw_shares"]


def draw_learning_bands(path: str | os.PathLike[str], curves: pd.DataFrame, metric: str) -> None:
    """Draw learning curves: the mean over seeds, and a band from the lowest to the highest.

    Args:
        path: PNG to write.
        curves: the validations of all trainings, with network, cases, init, iteration and score. Each network is a row
            of panels, and what stands in cases a column.
        metric: name of the score.
    """
    rows, columns, colors = curves["network"].unique(), curves["cases"].unique(), _colors(curves["init"])
    figure = Figure(figsize=(4.5 * len(columns) + 2, 3.4 * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharey=True)
    for row, line in zip(rows, grid, strict=True):
        for column, axes in zip(columns, line, strict=True):
            panel = curves[(curves["network"] == row) & (curves["cases"] == column)]
            for init, scores in panel.groupby("init", sort=False):
                band = scores.groupby("iteration")["score"].agg(["min", "mean", "max"])
                axes.plot(band.index, band["mean"], marker=".", color=colors[init], label=init)
                axes.fill_between(band.index, band["min"], band["max"], color=colors[init], alpha=0.18, linewidth=0)
            axes.set(title=f"{row}, {column}", xlabel="iteration", ylabel=metric)
            axes.set_xlim(left=0)
            axes.grid(alpha=0.3)
    _add_legend(figure, "mean of the seeds,\nband: lowest to highest")
    save_figure(figure, path)


def draw_shares(path: str | os.PathLike[str], trainings: pd.DataFrame, metric: str) -> None:
    """Draw scores against the share of the training cases: a dot for each seed, a line through the means.

    Args:
        path: PNG to write.
        trainings: with network, init, share and end, the score; each network is a panel.
        metric: name of the score.
    """
    colors, shares = _colors(trainings["init"]), sorted(trainings["share"].unique())
    panels = trainings.groupby("network", sort=False)
    figure = Figure(figsize=(4.5 * len(panels) + 2, 3.8), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (network, panel) in zip(grid, panels, strict=True):
        for init, group in panel.groupby("init", sort=False):
            # Beside one another, so that no dot hides another.
            offset = 0.6 * ((list(colors).index(init) + 0.5) / len(colors) - 0.5)
            places = group["share"].map(shares.index) + offset
            means = group["end"].groupby(places).mean()
            axes.plot(means.index, means, "_-", color=colors[init], label=init, markersize=14)
            axes.plot(places, group["end"], "o", color=colors[init], alpha=0.6, markersize=5)
        axes.set(xticks=range(len(shares)), xticklabels=[f"{100 * share:g} %" for share in shares])
        axes.set(title=network, xlabel="share of the training cases", ylabel=metric, xlim=(-0.5, len(shares) - 0.5))
        axes.grid(axis="y", alpha=0.3)
    _add_legend(figure, "mean and each seed")
    save_figure(figure, path)


def _colors(labels: Iterable[str]) -> dict[str, str]:
    return {label: f"C{index % 10}" for index, label in enumerate(dict.fromkeys(labels))}


def _add_legend(figure: Any, title: str) -> None:
    """Add one legend of all panels, beside them."""
    entries = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside right upper", fontsize="small", title=title)
