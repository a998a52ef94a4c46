"""Inferers: fast ones, windows of the domain's size or over the body, and a coarse stage before a fine one."""

from med3d_components.inferers.cascade import CascadeInferer
from med3d_components.inferers.fast import FastInferer, fuse_batch_norm
from med3d_components.inferers.mirrored import MirroredInferer
from med3d_components.inferers.windows import BodyWindowInferer, DomainSlidingWindowInferer, windows_per_pass

__all__ = [
    "BodyWindowInferer",
    "CascadeInferer",
    "DomainSlidingWindowInferer",
    "FastInferer",
    "MirroredInferer",
    "fuse_batch_norm",
    "windows_per_pass",
]
