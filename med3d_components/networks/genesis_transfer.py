"""Segmentation and classification with what the U-Net of Models Genesis learnt (Zhou et al. 2019, target tasks)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from med3d_components.networks.genesis import GenesisEncoder, GenesisEncoderDecoder

__all__ = ["GenesisClassificationNet", "GenesisSegmentationNet"]


class GenesisSegmentationNet(nn.Module):
    """Segment a volume with the U-Net and a 1x1x1 convolution in place of its last layer.

    Args:
        num_classes: background included.
        in_channels: channels of the input.

    Raises:
        ValueError: for fewer than two classes.

    Example:
        >>> GenesisSegmentationNet(num_classes=3)(torch.zeros(1, 1, 30, 33, 17)).shape
        torch.Size([1, 3, 30, 33, 17])
    """

    def __init__(self, num_classes: int, in_channels: int = 1) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}, but must be 2 or more, background included.")
        self.encoder = GenesisEncoderDecoder(in_channels=in_channels)
        self.classifier = nn.Conv3d(self.encoder.features, num_classes, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, in_channels, H, W, D) of any size to logits (B, num_classes, H, W, D)."""
        return self.classifier(self.encoder(x))


class GenesisClassificationNet(nn.Module):
    """Classify a volume: contracting path, global average pooling, and a hidden layer of 1024 as published.

    Args:
        num_classes: two or more.
        dropout: probability of dropping a hidden value during training; there is none in the published networks.
        in_channels: channels of the input.

    Raises:
        ValueError: for fewer than two classes.

    Example:
        >>> GenesisClassificationNet(num_classes=2)(torch.zeros(3, 1, 32, 32, 32)).shape
        torch.Size([3, 2])
    """

    def __init__(self, num_classes: int = 2, dropout: float = 0.0, in_channels: int = 1) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}, but must be 2 or more.")
        self.encoder = GenesisEncoder(in_channels=in_channels)
        self.hidden = nn.Linear(self.encoder.channels[-1], 1024)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, in_channels, H, W, D) of any size to logits (B, num_classes)."""
        pooled = self.encoder(x)[-1].mean(dim=(2, 3, 4))
        return self.classifier(self.dropout(F.relu(self.hidden(pooled))))
