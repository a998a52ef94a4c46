"""Pictures: people look before they read."""

from med3d_components.visualize.classification import draw_cubes, draw_roc
from med3d_components.visualize.curves import draw_curves
from med3d_components.visualize.overlays import draw_overlays

__all__ = ["draw_cubes", "draw_curves", "draw_overlays", "draw_roc"]
