"""MONAI's BasicUNet as the network of a bundle, to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.nets import BasicUNet
from torch import nn

__all__ = ["BasicUNetBaseline"]


class BasicUNetBaseline(nn.Module):
    """BasicUNet under the interface that the bundles' trainings ask for: all of it is the "encoder", of one rate.

    Args:
        num_classes: background included.
        features: channels from full resolution down, and those of the last layer.

    Example:
        >>> BasicUNetBaseline(3)(torch.zeros(1, 1, 32, 32, 16)).shape
        torch.Size([1, 3, 32, 32, 16])
    """

    def __init__(self, num_classes: int, features: Sequence[int] = (16, 16, 32, 64, 128, 16)) -> None:
        super().__init__()
        self.encoder = BasicUNet(3, 1, num_classes, features=features)
        self.settings: Mapping[str, Any] = {"task": "segmentation", "network": "BasicUNet", "features": list(features)}
        self.encoder.settings = self.settings

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, 1, H, W, D) to logits (B, num_classes, H, W, D)."""
        logits: torch.Tensor = self.encoder(x)
        return logits
