"""Pictures of a study: learning curves with bands over seeds, and scores against the share of the cases."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from med3d_components.handlers.drawing import save_figure

__all__ = ["draw_learning_bands", "draw_shares"]

Curve = Sequence[tuple[int, float]]


def draw_learning_bands(
    path: str | os.PathLike[str], rows: Mapping[str, Mapping[str, Mapping[str, Sequence[Curve]]]], metric: str
) -> None:
    """Draw learning curves: the mean over seeds, and a band from the lowest to the highest.

    Args:
        path: PNG to write.
        rows: title of a row to that of a column to label to the curves of all seeds, each of (iteration, score).
        metric: name of the score.
    """
    columns = list(dict.fromkeys(column for panels in rows.values() for column in panels))
    colors = _colors(label for panels in rows.values() for curves in panels.values() for label in curves)
    figure = Figure(figsize=(4.5 * len(columns) + 2, 3.4 * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharey=True)
    for (row, panels), line in zip(rows.items(), grid, strict=True):
        for column, axes in zip(columns, line, strict=True):
            for label, curves in panels.get(column, {}).items():
                iterations, low, mean, high = _band(curves)
                axes.plot(iterations, mean, marker=".", color=colors[label], label=label)
                axes.fill_between(iterations, low, high, color=colors[label], alpha=0.18, linewidth=0)
            axes.set(title=f"{row}, {column}", xlabel="iteration", ylabel=metric)
            axes.set_xlim(left=0)
            axes.grid(alpha=0.3)
    _add_legend(figure, "mean of the seeds,\nband: lowest to highest")
    save_figure(figure, path)


def draw_shares(
    path: str | os.PathLike[str], panels: Mapping[str, Mapping[str, Mapping[float, Sequence[float]]]], metric: str
) -> None:
    """Draw scores against the share of the training cases: a dot for each seed, a line through the means.

    Args:
        path: PNG to write.
        panels: title to label to share to the scores of all seeds.
        metric: name of the score.
    """
    colors = _colors(label for labels in panels.values() for label in labels)
    shares = sorted({share for labels in panels.values() for scores in labels.values() for share in scores})
    figure = Figure(figsize=(4.5 * len(panels) + 2, 3.8), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, labels) in zip(grid, panels.items(), strict=True):
        for label, scores in labels.items():
            # Beside one another, so that no dot hides another.
            offset = 0.6 * ((list(colors).index(label) + 0.5) / len(colors) - 0.5)
            places = [shares.index(share) + offset for share in sorted(scores)]
            groups = [scores[share] for share in sorted(scores)]
            means = [float(np.mean(group)) for group in groups]
            axes.plot(places, means, "_-", color=colors[label], label=label, markersize=14)
            for place, group in zip(places, groups, strict=True):
                axes.plot([place] * len(group), group, "o", color=colors[label], alpha=0.6, markersize=5)
        axes.set(xticks=range(len(shares)), xticklabels=[f"{100 * share:g} %" for share in shares])
        axes.set(title=title, xlabel="share of the training cases", ylabel=metric, xlim=(-0.5, len(shares) - 0.5))
        axes.grid(axis="y", alpha=0.3)
    _add_legend(figure, "mean and each seed")
    save_figure(figure, path)


def _band(curves: Sequence[Curve]) -> tuple[list[int], list[float], list[float], list[float]]:
    """Return iterations, and the lowest, mean and highest score of the curves that have one there."""
    scores: dict[int, list[float]] = {}
    for curve in curves:
        for iteration, score in curve:
            scores.setdefault(iteration, []).append(score)
    groups = [scores[iteration] for iteration in sorted(scores)]
    low, mean, high = ([float(function(group)) for group in groups] for function in (np.min, np.mean, np.max))
    return sorted(scores), low, mean, high


def _colors(labels: Iterable[str]) -> dict[str, str]:
    return {label: f"C{index % 10}" for index, label in enumerate(dict.fromkeys(labels))}


def _add_legend(figure: Any, title: str) -> None:
    """Add one legend of all panels, beside them."""
    entries = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside right upper", fontsize="small", title=title)
