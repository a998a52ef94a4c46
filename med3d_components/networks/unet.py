"""A decoder that sees detail: skip connections from the dilated encoder, and a path at full and half resolution.

Not of the paper, whose heads look at an eighth of the resolution. It follows the U-Net (Ronneberger, Fischer, Brox
2015) and, in its normalisation, activation and deep supervision, nnU-Net (Isensee et al. 2021); its widths are ours,
chosen so that a step costs no more than one of a U-Net of 16 channels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import torch
from monai.networks.blocks import Convolution
from torch import nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from med3d_components.networks.resnet import DilatedResNet
from med3d_components.utils import as_flag

__all__ = ["Med3DUNet", "UNetDecoder"]

FULL, HALF, QUARTER = 16, 32, 64
"""Channels at full, half and a quarter of the resolution."""


class UNetDecoder(nn.Module):
    """Map the encoder's maps and the volume itself to logits at the volume's resolution.

    ========== ================================== ===================================================
    resolution what is joined                     what is made of it
    ========== ================================== ===================================================
    a quarter  the deepest map, 96; layer1, 32    one convolution, 64 channels
    half       the above, 32; stem, 16; path, 32  two convolutions, 32 channels
    full       the above, 16; path, 16            two convolutions, 16 channels, then 1x1x1 to classes
    ========== ================================== ===================================================

    Each number of what is joined is the width that a 1x1x1 convolution brings a map to before it is up-sampled. The
    path is two convolutions of 16 channels on the volume itself, and two of 32 on what is pooled of them. Convolutions
    are 3x3x3, each with InstanceNorm and LeakyReLU.

    Args:
        encoder: whose maps are decoded.
        num_classes: background included.
        deepest: channels of the deepest map, by default those of the encoder's.
        deep_supervision: in training, give logits of a half and of a quarter of the resolution, too.

    Example:
        >>> encoder = DilatedResNet(depth=10)
        >>> decoder = UNetDecoder(encoder, num_classes=3, deep_supervision=True)
        >>> x = torch.zeros(1, 1, 24, 18, 33)
        >>> [tuple(logits.shape[2:]) for logits in decoder(x, encoder(x))]
        [(24, 18, 33), (12, 9, 17), (6, 5, 9)]
        >>> decoder.eval()(x, encoder(x)).shape
        torch.Size([1, 3, 24, 18, 33])
    """

    def __init__(
        self, encoder: DilatedResNet, num_classes: int, deepest: int | None = None, deep_supervision: bool | str = False
    ) -> None:
        super().__init__()
        stem, layer1, *_, last = encoder.channels
        self.factors = [[float(x) for x in stride] for stride in encoder.strides]
        self.pool = nn.MaxPool3d(encoder.strides[0], ceil_mode=True)
        self.path_full = _convolutions(encoder.settings["in_channels"], FULL, FULL)
        self.path_half = _convolutions(FULL, HALF, HALF)
        self.reduce_deepest = nn.Conv3d(last if deepest is None else deepest, 96, 1)
        self.skip_layer1 = nn.Conv3d(layer1, HALF, 1)
        self.join_quarter = _convolutions(96 + HALF, QUARTER)
        self.reduce_quarter = nn.Conv3d(QUARTER, HALF, 1)
        self.skip_stem = nn.Conv3d(stem, FULL, 1)
        self.join_half = _convolutions(HALF + FULL + HALF, HALF, HALF)
        self.reduce_half = nn.Conv3d(HALF, FULL, 1)
        self.join_full = _convolutions(FULL + FULL, FULL, FULL)
        self.deep_supervision = as_flag("deep_supervision", deep_supervision)
        supervised = (HALF, QUARTER) if self.deep_supervision else ()
        self.supervised = nn.ModuleList(nn.Conv3d(width, num_classes, 1) for width in supervised)
        self.classifier = nn.Conv3d(FULL, num_classes, 1)

    def forward(self, x: torch.Tensor, maps: list[torch.Tensor]) -> torch.Tensor:
        """Decode.

        Args:
            x: volumes (B, in_channels, H, W, D).
            maps: of the encoder, stem and layer1 first and the deepest last.

        Returns:
            Logits (B, num_classes, H, W, D); in training with deep supervision a list of those and of smaller ones.
        """
        path_full = self.path_full(x)
        path_half = self.path_half(self.pool(path_full))
        skip = self.skip_layer1(maps[1])
        quarter = self.join_quarter(
            torch.cat([_enlarge(self.reduce_deepest(maps[-1]), skip, self.factors[2]), skip], 1)
        )
        skip = self.skip_stem(maps[0])
        enlarged = _enlarge(self.reduce_quarter(quarter), skip, self.factors[1])
        half = self.join_half(torch.cat([enlarged, skip, path_half], 1))
        enlarged = _enlarge(self.reduce_half(half), path_full, self.factors[0])
        logits: torch.Tensor = self.classifier(self.join_full(torch.cat([enlarged, path_full], 1)))
        if not is_scripting() and self.training and self.deep_supervision:
            smaller = [classifier(x) for classifier, x in zip(self.supervised, (half, quarter), strict=True)]
            return cast("torch.Tensor", [logits, *smaller])
        return logits


class Med3DUNet(nn.Module):
    """Segment a volume with the dilated encoder and a :class:`UNetDecoder`.

    Args:
        num_classes: background included.
        depth: of the encoder, see :class:`DilatedResNet`.
        deep_supervision: see :class:`UNetDecoder`.
        **encoder: further arguments of :class:`DilatedResNet`.

    Raises:
        ValueError: for fewer than two classes.

    Example:
        >>> network = Med3DUNet(num_classes=3, depth=10)
        >>> network(torch.zeros(1, 1, 30, 33, 17)).shape
        torch.Size([1, 3, 30, 33, 17])
    """

    def __init__(self, num_classes: int, depth: int = 50, deep_supervision: bool | str = False, **encoder: Any) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}, but must be 2 or more, background included.")
        self.encoder = DilatedResNet(depth, **encoder)
        self.decoder = UNetDecoder(self.encoder, num_classes, deep_supervision=deep_supervision)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, in_channels, H, W, D) of any size to logits (B, num_classes, H, W, D), see the decoder."""
        return self.decoder(x, self.encoder(x))


def _convolutions(*widths: int) -> nn.Sequential:
    style: dict[str, Any] = {"adn_ordering": "NA", "act": "LEAKYRELU", "norm": ("INSTANCE", {"affine": True})}
    return nn.Sequential(*(Convolution(3, *pair, bias=False, **style) for pair in pairwise(widths)))


def _enlarge(x: torch.Tensor, like: torch.Tensor, factors: list[float]) -> torch.Tensor:
    """Up-sample a map by the encoder's strides, so that structures stay in place, and cut it to another's size."""
    x = nn.functional.interpolate(x, scale_factor=factors, mode="trilinear", align_corners=False)
    return x[:, :, : like.shape[2], : like.shape[3], : like.shape[4]]
