"""Learning curves of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from med3d_components.visualize.figure import save_figure

__all__ = ["draw_curves"]


def draw_curves(path: str | os.PathLike[str], rows: Sequence[Mapping[str, float]], key_metric: str) -> None:
    """Draw the training loss and the scores of each domain against the epoch.

    Args:
        path: PNG to write.
        rows: one mapping per epoch with "epoch", "train_loss" and scores; "<domain>/<class>" is left out.
        key_metric: score drawn thick.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    losses.plot([row["epoch"] for row in rows], [row["train_loss"] for row in rows], marker=".")
    losses.set(title="Training loss", xlabel="epoch")
    names = dict.fromkeys(name for row in rows for name in row if "/" not in name)
    for name in [name for name in names if name not in ("epoch", "train_loss")]:
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        style = {"linewidth": 2.5, "color": "black"} if name == key_metric else {"linewidth": 1}
        scores.plot(*zip(*points, strict=True), marker=".", label=f"{name} ({points[-1][1]:.3f})", **style)
    scores.set(title="Validation", xlabel="epoch", ylim=(0, 1))
    if scores.lines:
        scores.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, path)
