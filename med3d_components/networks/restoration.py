"""Restoration with the Med3D encoder, so that it can be pre-trained as Models Genesis are (Zhou et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from med3d_components.networks.segmentation import HALVING, FullResolutionNet

__all__ = ["Med3DRestorationNet"]


class Med3DRestorationNet(FullResolutionNet):
    """Restore a distorted volume: ``forward`` maps volumes (B, in_channels, H, W, D) to (B, 1, H, W, D), in 0 to 1.

    Models Genesis pre-train a U-Net; here the encoder is that of Med3D, so that what it learns loads into all Med3D
    networks. The decoder is the one of :class:`Med3DSegmentationNet`, without skip connections.

    Args:
        depth: of the encoder, see :class:`DilatedResNet`.
        widths: of the decoder, see :class:`FullResolutionNet`.
        **encoder: further arguments of :class:`DilatedResNet`.

    Raises:
        ValueError: for widths that are not three pairs of positive integers.

    Example:
        >>> Med3DRestorationNet(depth=10).encoder.channels
        (64, 64, 128, 256, 512)
    """

    def __init__(self, depth: int = 50, widths: Sequence[Sequence[int]] = HALVING, **encoder: Any) -> None:
        super().__init__(1, depth, widths, **encoder)
        self.classifier = nn.Sequential(self.classifier, nn.Sigmoid())
