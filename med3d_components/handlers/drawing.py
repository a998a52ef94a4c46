"""Pictures of a run and of what a network sees and gives: people look before they read."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from med3d_components.handlers.planes import Plane, fill_classes
from med3d_components.masks.classes import class_color
from med3d_components.metrics.classification import roc_auc
from med3d_components.utils import atomic_path

__all__ = [
    "EPOCH_COLUMNS",
    "draw_cubes",
    "draw_curves",
    "draw_overlays",
    "draw_restorations",
    "draw_roc",
    "save_figure",
]

EPOCH_COLUMNS = ("epoch", "step", "time", "learning_rate", "decoder_learning_rate", "train_loss")
"""What the table of a training tells of an epoch besides scores."""
CLASSES = ("benign", "malignant")
MOST, COLUMNS = 40, 8  # cubes of a sheet and of a row
WIDTH = 11
"""Of a picture with overlays, in inches."""
RESTORED = {"label": "original", "image": "distorted", "pred": "restored", "error": "|restored - original|"}


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_curves(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], key_metric: str) -> None:
    """Draw the training loss and the scores of each domain against the epoch.

    Args:
        path: PNG to write.
        rows: one mapping per epoch with "epoch", "train_loss" where there was one, and scores; "<domain>/<class>" is
            left out.
        key_metric: score drawn thick.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    trained = [(row["epoch"], row["train_loss"]) for row in rows if "train_loss" in row]
    losses.plot([epoch for epoch, _ in trained], [loss for _, loss in trained], marker=".")
    losses.set(title="Training loss", xlabel="epoch")
    names = dict.fromkeys(name for row in rows for name in row if "/" not in name)
    for name in [name for name in names if name not in EPOCH_COLUMNS]:
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        style = {"linewidth": 2.5, "color": "black"} if name == key_metric else {"linewidth": 1}
        scores.plot(*zip(*points, strict=True), marker=".", label=f"{name} ({points[-1][1]:.3f})", **style)
    scores.set(title="Validation", xlabel="epoch", ylim=(0, 1))
    if scores.lines:
        scores.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, path)


def draw_overlays(
    path: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]], classes: Sequence[str] = ()
) -> None:
    """Draw three planes of each case where they show most of its label, as radiologists look at them.

    The patient's right is at the picture's left; anterior is up in axial planes and left in sagittal ones, superior is
    up in the others. Lengths are true, and titles tell where in the world a plane lies, in mm. The legend names the
    classes, with their Dice in the whole volume where the label is known.

    Args:
        path: PNG to write.
        cases: mappings with "title" and the volumes "image", "pred" and, where it is known, "label" of shape
            (H, W, D), oriented to RAS. A label is drawn with dashed contours, the prediction with solid ones, in the
            colours that the classes have in every file. An "affine", from voxel to RAS mm, is by default the image's,
            or voxels of 1 mm; "classes" may be a case's own.
        classes: names, background first.
    """
    planes = [_planes(case) for case in cases]
    heights = [_height(shown) for shown in planes]
    figure = Figure(figsize=(WIDTH, max(1, sum(heights))), layout="constrained", facecolor="black")
    parts = figure.subfigures(max(1, len(cases)), squeeze=False, height_ratios=heights or None)[:, 0]
    for part, case, shown in zip(parts, cases, planes, strict=False):
        part.set_facecolor("black")
        part.suptitle(case["title"], color="white")
        image, prediction = np.asarray(case["image"]), np.asarray(case["pred"])
        label = np.asarray(case["label"]) if "label" in case else None
        low, high = np.percentile(image, (1, 99))
        grid = part.subplots(1, 3, width_ratios=[plane.width for plane in shown])
        for axes, plane in zip(grid, shown, strict=True):
            axes.imshow(plane.cut(image), cmap="gray", vmin=low, vmax=high, aspect=plane.aspect)
            axes.imshow(fill_classes(plane.cut(prediction)), aspect=plane.aspect, interpolation="nearest")
            _contours(axes, plane.cut(prediction), "solid")
            if label is not None:
                _contours(axes, plane.cut(label), "dashed")
            _letters(axes, plane)
            axes.set_axis_off()
            axes.set_title(plane.title, fontsize="small", color="white")
        _legend(part, prediction, label, case.get("classes", classes))
    save_figure(figure, path)


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


def draw_restorations(path: str | os.PathLike[str], cubes: Sequence[Mapping[str, Any]]) -> None:
    """Draw the middle axial slice of cubes: a row each, with the error that is left in the last column.

    Args:
        path: PNG to write.
        cubes: mappings with "title" and the volumes "label" (original), "image" (distorted) and "pred" (restored), of
            shape (H, W, D) and values in 0 to 1.
    """
    figure = Figure(figsize=(9, 2.3 * len(cubes)), layout="constrained")
    for row, cube in zip(figure.subplots(len(cubes), 4, squeeze=False), cubes, strict=True):
        slices = {name: np.asarray(cube[name])[:, :, cube[name].shape[2] // 2].T for name in ("label", "image", "pred")}
        slices["error"] = np.abs(slices["pred"] - slices["label"])
        for axes, (name, title) in zip(row, RESTORED.items(), strict=True):
            style = {"cmap": "magma", "vmax": 0.5} if name == "error" else {"cmap": "gray", "vmax": 1}
            axes.imshow(slices[name], origin="lower", vmin=0, **style)
            axes.set_axis_off()
            mse = "" if name == "label" or name == "error" else f" (MSE {_mse(cube, name):.4f})"
            axes.set_title(f"{title}{mse}", fontsize="small")
        row[0].set_title(f"{cube['title']}\noriginal", fontsize="small")
    save_figure(figure, path)


def _planes(case: Mapping[str, Any]) -> list[Plane]:
    """Return the planes that show most of a case's label, or of its prediction where there is none."""
    label = np.asarray(case["label"]) if "label" in case else None
    shown = np.asarray(case["pred"]) if label is None or not label.any() else label
    affine = np.asarray(case.get("affine", getattr(case["image"], "affine", np.eye(4))), dtype=float)
    return [Plane.through(shown, affine, axis) for axis in (2, 1, 0)]


def _height(planes: Sequence[Plane]) -> float:
    """Return the inches of three planes of one scale in a row, with their titles and a legend."""
    height = WIDTH * max(plane.height for plane in planes) / sum(plane.width for plane in planes)
    return round(min(max(height, 1), 6), 1) + 1


def _contours(axes: Any, labels: np.ndarray, style: str) -> None:
    for value in np.unique(labels[labels > 0]).astype(int):
        mask = (labels == value).astype(float)
        if min(mask.shape) > 1:
            axes.contour(mask, levels=[0.5], colors=[_rgb(value)], linestyles=style, linewidths=1.2)


def _rgb(value: int) -> tuple[float, ...]:
    return tuple(part / 255 for part in class_color(value))


def _letters(axes: Any, plane: Plane) -> None:
    """Say at the picture's edges which sides of the patient they are."""
    (left, right), (top, bottom) = plane.ends
    for x, y, letter in ((0.03, 0.5, left), (0.97, 0.5, right), (0.5, 0.97, top), (0.5, 0.03, bottom)):
        text = axes.text(x, y, letter, transform=axes.transAxes, color="white", weight="bold", fontsize="small")
        text.set(ha="center", va="center", path_effects=[withStroke(linewidth=2, foreground="black")])


def _legend(part: Any, prediction: np.ndarray, label: np.ndarray | None, classes: Sequence[str]) -> None:
    volumes = [prediction] if label is None else [prediction, label]
    counts = [np.bincount(volume.astype(int).ravel(), minlength=len(classes)) for volume in volumes]
    handles: list[Any] = []
    for value in range(1, max(count.size for count in counts)):
        sizes = [int(count[value]) if value < count.size else 0 for count in counts]
        name = classes[value] if value < len(classes) else f"class {value}"
        if not any(sizes):
            handles += [Patch(facecolor="none", label=f"{name}, none")] * (value < len(classes))
            continue
        if label is not None:
            name += f", Dice {2 * int(((prediction == value) & (label == value)).sum()) / sum(sizes):.3f}"
        handles.append(Patch(color=_rgb(value), label=name))
    if label is not None:
        handles += [
            Line2D([], [], color="lightgray", linestyle=style, label=name)
            for name, style in (("prediction", "solid"), ("label", "dashed"))
        ]
    if handles:
        options = {"ncols": min(5, len(handles)), "fontsize": "small", "labelcolor": "white", "frameon": False}
        part.legend(handles=handles, loc="outside lower center", **options)


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


def _mse(cube: Mapping[str, Any], name: str) -> float:
    return float(np.square(np.asarray(cube[name], dtype=float) - np.asarray(cube["label"], dtype=float)).mean())
