"""Segmentation at full resolution with the Med3D encoder (Chen, Ma, Zheng 2019, lung segmentation)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from med3d_components.networks.resnet import DilatedResNet, Stride

__all__ = ["HALVING", "FullResolutionNet", "Med3DSegmentationNet"]

HALVING = ((256, 128), (128, 64), (64, 32))
"""Default channels of the decoder, see :class:`FullResolutionNet`."""


class FullResolutionNet(nn.Module):
    """Map a volume to one of its own size with the dilated encoder and three decoder groups that double the size.

    A group is a transposed 3x3x3 convolution of stride 2, or of what the encoder has there, and a 3x3x3 convolution; a
    1x1x1 convolution makes the result. The paper gives the first group 256 and 128 channels and the others "similar,
    doubling the number of channels per layer progressively", which is ambiguous: the widths are an argument. They halve
    by default, as decoders do; ``((256, 128), (512, 256), (1024, 512))`` is the literal reading. The paper names no
    normalisation; BatchNorm and ReLU follow each convolution as in the decoder that MedicalNet released.

    Args:
        out_channels: of the result.
        depth: of the encoder, see :class:`DilatedResNet`.
        widths: channels of the transposed and of the plain convolution, for each of the three groups.
        **encoder: further arguments of :class:`DilatedResNet`.

    Raises:
        ValueError: for widths that are not three pairs of positive integers.
    """

    def __init__(self, out_channels: int, depth: int, widths: Sequence[Sequence[int]], **encoder: Any) -> None:
        super().__init__()
        if len(widths) != 3 or any(len(pair) != 2 or min(pair) < 1 for pair in widths):
            raise ValueError(f"widths is {widths!r}, but must be three pairs of positive integers, one per group.")
        self.encoder = DilatedResNet(depth, **encoder)
        channels = [self.encoder.channels[-1], *(last for _, last in widths)]
        self.decoder = nn.Sequential(
            *(_group((channels[i], *widths[i]), self.encoder.strides[2 - i]) for i in range(3))
        )
        self.classifier: nn.Module = nn.Conv3d(channels[-1], out_channels, kernel_size=1)
        for module in self.decoder.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, in_channels, H, W, D) of any size to (B, out_channels, H, W, D)."""
        decoded = self.decoder(self.encoder(x)[-1])
        # The encoder rounds a size up to a multiple of its stride; what lies beyond the input is cut off.
        return self.classifier(decoded[:, :, : x.shape[2], : x.shape[3], : x.shape[4]])


class Med3DSegmentationNet(FullResolutionNet):
    """Segment a volume: ``forward`` gives the logits (B, num_classes, H, W, D) of volumes (B, in_channels, H, W, D).

    Args:
        num_classes: background included.
        depth: of the encoder, see :class:`DilatedResNet`.
        widths: of the decoder, see :class:`FullResolutionNet`.
        **encoder: further arguments of :class:`DilatedResNet`.

    Raises:
        ValueError: for fewer than two classes, or widths that are not three pairs of positive integers.

    Example:
        >>> network = Med3DSegmentationNet(num_classes=3, depth=10)
        >>> network(torch.zeros(1, 1, 30, 33, 17)).shape
        torch.Size([1, 3, 30, 33, 17])
    """

    def __init__(
        self, num_classes: int, depth: int = 50, widths: Sequence[Sequence[int]] = HALVING, **encoder: Any
    ) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}, but must be 2 or more, background included.")
        super().__init__(num_classes, depth, widths, **encoder)


def _group(channels: Sequence[int], stride: Stride) -> nn.Sequential:
    before, enlarged, after = channels
    a, b, c = stride
    return nn.Sequential(
        nn.ConvTranspose3d(before, enlarged, 3, stride, padding=1, output_padding=(a - 1, b - 1, c - 1), bias=False),
        nn.BatchNorm3d(enlarged),
        nn.ReLU(inplace=True),
        nn.Conv3d(enlarged, after, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm3d(after),
        nn.ReLU(inplace=True),
    )
