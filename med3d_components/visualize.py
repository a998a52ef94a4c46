"""Pictures of a run: learning curves, and predictions laid over the image in three planes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from med3d_components.utils import atomic_path

__all__ = ["draw_curves", "draw_overlays"]

PLANES = ("sagittal", "coronal", "axial")
COLORS = ("tab:orange", "tab:green", "tab:red", "tab:purple", "tab:cyan", "tab:pink")


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
    scores.set(title="Validation Dice", xlabel="epoch", ylim=(0, 1))
    if scores.lines:
        scores.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    _save(figure, path)


def draw_overlays(path: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]]) -> None:
    """Draw three planes of each case through the middle of its label, with contours.

    Args:
        path: PNG to write.
        cases: mappings with "title" and the volumes "image", "label" and "pred" of shape (H, W, D), oriented to RAS;
            the label is drawn with dashed contours, the prediction with solid ones, one colour per class.
    """
    figure = Figure(figsize=(9, 3.2 * len(cases)), layout="constrained")
    figure.suptitle("dashed: label, solid: prediction")
    for row, case in zip(figure.subplots(len(cases), 3, squeeze=False), cases, strict=True):
        image, label, prediction = (np.asarray(case[name]) for name in ("image", "label", "pred"))
        low, high = np.percentile(image, (1, 99))
        for plane, axes in enumerate(row):
            index = _middle(label, plane)
            axes.imshow(image.take(index, plane).T, cmap="gray", origin="lower", vmin=low, vmax=high)
            for volume, style in ((label, "dashed"), (prediction, "solid")):
                _contours(axes, volume.take(index, plane).T, style)
            axes.set_axis_off()
            axes.set_title(f"{case['title']}\n{PLANES[plane]}" if plane == 0 else PLANES[plane], fontsize="small")
    _save(figure, path)


def _middle(label: np.ndarray, plane: int) -> int:
    """Return the slice that shows most of the label, or the middle one if there is none."""
    area = (label > 0).sum(axis=tuple(axis for axis in range(3) if axis != plane))
    return int(area.argmax()) if area.any() else label.shape[plane] // 2


def _contours(axes: Any, labels: np.ndarray, style: str) -> None:
    for value in np.unique(labels[labels > 0]).astype(int):
        mask = (labels == value).astype(float)
        if min(mask.shape) > 1:
            axes.contour(mask, levels=[0.5], colors=COLORS[(value - 1) % len(COLORS)], linestyles=style, linewidths=1)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
