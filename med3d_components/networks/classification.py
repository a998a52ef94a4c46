"""Classification with the Med3D encoder (Chen, Ma, Zheng 2019, nodule classification)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from med3d_components.networks.resnet import DilatedResNet

__all__ = ["Med3DClassificationNet"]


class Med3DClassificationNet(nn.Module):
    """Classify a volume: dilated encoder, global average pooling, and a 1x1x1 convolution as the last layer.

    Args:
        num_classes: two or more.
        depth: of the encoder, see :class:`DilatedResNet`.
        dropout: probability of dropping a pooled feature during training; the paper mentions none.
        **encoder: further arguments of :class:`DilatedResNet`.

    Raises:
        ValueError: for fewer than two classes.

    Example:
        >>> Med3DClassificationNet(num_classes=2, depth=10)(torch.zeros(3, 1, 32, 32, 32)).shape
        torch.Size([3, 2])
    """

    def __init__(self, num_classes: int = 2, depth: int = 50, dropout: float = 0.0, **encoder: Any) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}, but must be 2 or more.")
        self.encoder = DilatedResNet(depth, **encoder)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv3d(self.encoder.channels[-1], num_classes, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, in_channels, H, W, D) of any size to logits (B, num_classes)."""
        pooled = self.encoder(x)[-1].mean(dim=(2, 3, 4), keepdim=True)
        return self.classifier(self.dropout(pooled)).flatten(1)
