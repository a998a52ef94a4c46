"""Look at a scan and at its mirror image, and average what the network gives for both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import Inferer

from med3d_components.data.sides import has_sides
from med3d_components.utils import as_flag

__all__ = ["MirroredInferer"]

LEFT_RIGHT = 2
"""Axis of a batch of volumes that are oriented to RAS, along which left and right lie."""


class MirroredInferer(Inferer):
    """Run another inferer on volumes and, with ``mirror``, on their mirror images, left and right changed.

    The result is the logarithm of the mean of both probabilities then: argmax and softmax make of it what they make of
    logits. It takes twice the time.

    Args:
        inferer: the inferer to run, whose result are logits of the volumes' size.
        classes: names, background first; of one that names a side, the mirror image would be the other one.
        mirror: true or false, also as text.

    Raises:
        ValueError: for mirroring with a class that names a side.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> scan = torch.rand(1, 1, 8, 4, 4)
        >>> network = torch.nn.Conv3d(1, 2, kernel_size=3, padding=1)
        >>> inferer = MirroredInferer(SimpleInferer(), ["background", "liver"], mirror=True)
        >>> torch.allclose(inferer(scan.flip(2), network), inferer(scan, network).flip(2))
        True
    """

    def __init__(self, inferer: Inferer, classes: Sequence[str], mirror: bool | str = False) -> None:
        super().__init__()
        self.inferer = inferer
        self.mirror = as_flag("mirror", mirror)
        if self.mirror and has_sides(classes):
            raise ValueError(
                f"mirror is true, but of the classes {', '.join(classes[1:])} some name a side, which the mirror image "
                "of a scan does not have; leave --mirror out."
            )

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Map volumes (B, C_in, H, W, D), oriented to RAS, to logits (B, C, H, W, D); the rest goes to the inferer."""
        if not self.mirror:
            return self.inferer(inputs, network, *args, **kwargs)
        # First, so that what the inferer tells of its last call is of the volumes as they are.
        mirrored = self.inferer(inputs.flip(LEFT_RIGHT), network, *args, **kwargs).flip(LEFT_RIGHT)
        plain = self.inferer(inputs, network, *args, **kwargs)
        both = torch.logaddexp(plain.float().log_softmax(1), mirrored.float().log_softmax(1))
        return both - math.log(2)
