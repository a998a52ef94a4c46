"""Pictures: people look before they read."""

from med3d_components.visualize.classification import draw_cubes, draw_roc
from med3d_components.visualize.curves import draw_curves
from med3d_components.visualize.overlays import draw_overlays
from med3d_components.visualize.restoration import draw_restorations

__all__ = ["draw_cubes", "draw_curves", "draw_overlays", "draw_restorations", "draw_roc"]
