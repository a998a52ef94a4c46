"""Predictions and labels laid over the image in three planes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from med3d_components.visualize.figure import save_figure

__all__ = ["draw_overlays"]

PLANES = ("sagittal", "coronal", "axial")
COLORS = ("tab:orange", "tab:green", "tab:red", "tab:purple", "tab:cyan", "tab:pink")


def draw_overlays(path: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]]) -> None:
    """Draw three planes of each case through the middle of its label, with contours.

    Args:
        path: PNG to write.
        cases: mappings with "title" and the volumes "image", "pred" and, where it is known, "label" of shape
            (H, W, D), oriented to RAS; the label is drawn with dashed contours, the prediction with solid ones, one
            colour per class.
    """
    figure = Figure(figsize=(9, 3.2 * len(cases)), layout="constrained")
    if any("label" in case for case in cases):
        figure.suptitle("dashed: label, solid: prediction")
    for row, case in zip(figure.subplots(len(cases), 3, squeeze=False), cases, strict=True):
        image, prediction = np.asarray(case["image"]), np.asarray(case["pred"])
        label = np.asarray(case["label"]) if "label" in case else np.zeros_like(prediction)
        low, high = np.percentile(image, (1, 99))
        for plane, axes in enumerate(row):
            index = _middle(label if label.any() else prediction, plane)
            axes.imshow(image.take(index, plane).T, cmap="gray", origin="lower", vmin=low, vmax=high)
            for volume, style in ((label, "dashed"), (prediction, "solid")):
                _contours(axes, volume.take(index, plane).T, style)
            axes.set_axis_off()
            axes.set_title(f"{case['title']}\n{PLANES[plane]}" if plane == 0 else PLANES[plane], fontsize="small")
    save_figure(figure, path)


def _middle(label: np.ndarray, plane: int) -> int:
    """Return the slice that shows most of the label, or the middle one if there is none."""
    area = (label > 0).sum(axis=tuple(axis for axis in range(3) if axis != plane))
    return int(area.argmax()) if area.any() else label.shape[plane] // 2


def _contours(axes: Any, labels: np.ndarray, style: str) -> None:
    for value in np.unique(labels[labels > 0]).astype(int):
        mask = (labels == value).astype(float)
        if min(mask.shape) > 1:
            axes.contour(mask, levels=[0.5], colors=COLORS[(value - 1) % len(COLORS)], linestyles=style, linewidths=1)
