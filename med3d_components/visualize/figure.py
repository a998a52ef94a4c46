"""How every picture is written."""

from __future__ import annotations

import os

from matplotlib.figure import Figure

from med3d_components.utils import atomic_path

__all__ = ["save_figure"]


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
