"""Original, distorted and restored images side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from med3d_components.visualize.figure import save_figure

__all__ = ["draw_restorations"]

COLUMNS = {"label": "original", "image": "distorted", "pred": "restored", "error": "|restored - original|"}


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
        for axes, (name, title) in zip(row, COLUMNS.items(), strict=True):
            style = {"cmap": "magma", "vmax": 0.5} if name == "error" else {"cmap": "gray", "vmax": 1}
            axes.imshow(slices[name], origin="lower", vmin=0, **style)
            axes.set_axis_off()
            mse = "" if name == "label" or name == "error" else f" (MSE {_mse(cube, name):.4f})"
            axes.set_title(f"{title}{mse}", fontsize="small")
        row[0].set_title(f"{cube['title']}\noriginal", fontsize="small")
    save_figure(figure, path)


def _mse(cube: Mapping[str, Any], name: str) -> float:
    return float(np.square(np.asarray(cube[name], dtype=float) - np.asarray(cube["label"], dtype=float)).mean())
