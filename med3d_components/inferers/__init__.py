"""Inferers: precision, windows of the domain's size, and a coarse stage that tells a fine one where to look."""

from med3d_components.inferers.cascade import CascadeInferer
from med3d_components.inferers.precision import PrecisionInferer
from med3d_components.inferers.sliding_window import DomainSlidingWindowInferer

__all__ = ["CascadeInferer", "DomainSlidingWindowInferer", "PrecisionInferer"]
