"""Inferers: precision, folding, windows of the domain's size or over the body, and a coarse stage before a fine one."""

from med3d_components.inferers.body import BodyWindowInferer
from med3d_components.inferers.cascade import CascadeInferer
from med3d_components.inferers.domain import DomainSlidingWindowInferer
from med3d_components.inferers.folding import FoldedInferer
from med3d_components.inferers.precision import PrecisionInferer
from med3d_components.inferers.sliding_window import windows_per_pass

__all__ = [
    "BodyWindowInferer",
    "CascadeInferer",
    "DomainSlidingWindowInferer",
    "FoldedInferer",
    "PrecisionInferer",
    "windows_per_pass",
]
