"""What a two-class classifier sees, where it errs, and how well it separates the classes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from med3d_components.metrics.classification import roc_auc
from med3d_components.visualize.figure import save_figure

__all__ = ["draw_cubes", "draw_roc"]

CLASSES = ("benign", "malignant")
MOST, COLUMNS = 40, 8  # cubes of a sheet and of a row


def draw_cubes(
    path: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]], classes: Sequence[str] = CLASSES
) -> None:
    """Draw the middle axial slice of each cube, most wrong first, framed green if it is right and red if wrong.

    Args:
        path: PNG to write.
        cases: mappings with "case" or "title", "image" of shape (H, W, D) oriented to RAS, "label", the name of the
            true class, and "probability" of the second class. Of more than 40, the most wrong are drawn.
        classes: names of the two classes, the positive one last.
    """
    shown = sorted(cases, key=lambda case: abs(_is_positive(case, classes) - case["probability"]), reverse=True)[:MOST]
    columns = min(COLUMNS, max(4, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = Figure(figsize=(1.8 * columns, 2.3 * rows + 0.3), layout="constrained")
    wrong = sum(_is_wrong(case, classes) for case in cases)
    figure.suptitle(
        f"{len(shown)} of {len(cases)} cases, most wrong first; right: {len(cases) - wrong}, wrong: {wrong}"
    )
    for axes, case in zip_longest(figure.subplots(rows, columns, squeeze=False).flat, shown):
        if case is None:  # the rest of the last row
            axes.set_axis_off()
        else:
            _draw_cube(axes, case, classes)
    save_figure(figure, path)


def draw_roc(
    path: str | os.PathLike[str],
    rows: Sequence[Mapping[str, Any]],
    name: str,
    interval: tuple[float, float],
    classes: Sequence[str] = CLASSES,
) -> None:
    """Draw ROC curve, confusion matrix at a probability of 0.5, and every case's probability.

    Args:
        path: PNG to write.
        rows: one mapping per case, with "label", the name of the true class, and "probability" of the second class.
        name: what the score is called, such as "AUC".
        interval: its 95 % interval.
        classes: names of the two classes, the positive one last.
    """
    labels = np.array([_is_positive(row, classes) for row in rows], dtype=int)
    scores = np.array([row["probability"] for row in rows], dtype=float)
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    curve, confusion, strip = figure.subplots(1, 3)
    low, high = interval
    _draw_curve(curve, scores, labels)
    curve.set_title(f"{name} {roc_auc(scores, labels):.3f} (95 % interval {low:.3f} to {high:.3f})")
    _draw_confusion(confusion, scores, labels, classes)
    _draw_strip(strip, scores, labels, classes)
    save_figure(figure, path)


def _is_positive(case: Mapping[str, Any], classes: Sequence[str]) -> bool:
    return bool(case["label"] == classes[1])


def _is_wrong(case: Mapping[str, Any], classes: Sequence[str]) -> bool:
    return bool(_is_positive(case, classes) != (case["probability"] >= 0.5))


def _draw_cube(axes: Any, case: Mapping[str, Any], classes: Sequence[str]) -> None:
    image = np.asarray(case["image"])
    low, high = np.percentile(image, (1, 99))
    axes.imshow(image[..., image.shape[2] // 2].T, cmap="gray", origin="lower", vmin=low, vmax=high)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=4, color="tab:red" if _is_wrong(case, classes) else "tab:green")
    title = case.get("title", case.get("case"))
    axes.set_title(f"{title}\n{case['label']}, {case['probability']:.2f}", fontsize="small")


def _draw_curve(axes: Any, scores: np.ndarray, labels: np.ndarray) -> None:
    axes.plot((0, 1), (0, 1), color="lightgray", linestyle="dashed")
    if 0 < labels.sum() < labels.size:
        # A point per distinct score, from "none is positive" to "all are".
        thresholds = np.append(np.inf, np.unique(scores)[::-1])
        taken = scores >= thresholds[:, None]
        axes.plot(taken[:, labels == 0].mean(axis=1), taken[:, labels == 1].mean(axis=1), color="black", linewidth=2)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _draw_confusion(axes: Any, scores: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    taken = (scores >= 0.5).astype(int)
    counts = np.zeros((2, 2), dtype=int)
    np.add.at(counts, (labels, taken), 1)
    axes.imshow(counts, cmap="Blues", vmin=0, vmax=max(1, 2 * counts.max()))  # pale enough for black digits
    for (true, predicted), count in np.ndenumerate(counts):
        axes.text(predicted, true, str(count), ha="center", va="center", fontsize="xx-large")
    axes.set(xticks=(0, 1), yticks=(0, 1), xticklabels=classes, yticklabels=classes)
    axes.set(xlabel="taken for", ylabel="true class", title=f"{np.trace(counts)} of {len(scores)} right at 0.5")


def _draw_strip(axes: Any, scores: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Draw a histogram per class, one upwards and one downwards, with a tick for every case."""
    bins = np.linspace(0, 1, 21)
    for label, side, color in ((1, 1, "tab:orange"), (0, -1, "tab:blue")):
        group = scores[labels == label]
        axes.stairs(side * np.histogram(group, bins)[0], bins, fill=True, color=color, alpha=0.6, label=classes[label])
        axes.plot(group, np.full(group.size, side * 0.15), "|", color="black", markersize=6)
    axes.axvline(0.5, color="black", linestyle="dotted")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda count, _: f"{abs(count):g}")
    axes.set(xlabel=f"probability of {classes[1]}", ylabel="cases", title="Probabilities", xlim=(0, 1))
    axes.legend(fontsize="small")
