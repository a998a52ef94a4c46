"""Segmentation with 3D DenseASPP on the Med3D encoder (Chen, Ma, Zheng 2019, liver segmentation).

DenseASPP is of Yang et al. 2018, "DenseASPP for Semantic Segmentation in Street Scenes". Med3D takes it over with all
2D kernels made 3D, and says neither its rates nor its widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.jit import is_scripting  # type: ignore[attr-defined]
from torch.utils.checkpoint import checkpoint

from med3d_components.networks.resnet import DilatedResNet, upsample_to
from med3d_components.networks.unet import UNetDecoder
from med3d_components.utils import as_flag

__all__ = ["RATES", "DenseASPP3D", "Med3DDenseASPPNet", "fit_rates"]

RATES = (3, 6, 12, 18, 24)
"""Atrous rates of the published 2D network."""


def fit_rates(rates: Sequence[int], feature_size: int, scaled: bool = False, stride: int = 8) -> tuple[int, ...]:
    """Check that atrous rates fit a feature map, or scale them to it.

    Along an axis that is no longer than the rate, a 3x3x3 kernel sees nothing but padding around its centre; where all
    axes are that short, it is no more than a 1x1x1 convolution. Scaling makes the largest rate half the map's
    shortest axis: the largest at which every voxel still has a neighbour inside the map along each axis. All rates are
    multiplied by the same factor and rounded up, so that their order is kept and none is 0; on a very small map some
    become equal.

    Args:
        rates: positive integers in any order.
        feature_size: voxels of the feature map along its shortest axis.
        scaled: scale rates of which the largest exceeds half the map, rather than refuse those that do not fit.
        stride: of the map along that axis, for messages.

    Returns:
        As many rates as were given.

    Raises:
        ValueError: if there are no rates, one is not a positive integer or does not fit, or no rate would.

    Example:
        >>> fit_rates((3, 6, 12, 18, 24), feature_size=16, scaled=True)
        (1, 2, 4, 6, 8)
    """
    _check_rates(rates)
    if feature_size < 2:
        raise ValueError(f"No atrous rate fits a map of {feature_size} voxel; choose a patch above {stride} voxels.")
    largest = max(rates)
    if scaled:
        limit = min(largest, feature_size // 2)
        return tuple(-(-rate * limit // largest) for rate in rates)
    if largest >= feature_size:
        raise ValueError(
            f"Atrous rate {largest} sees nothing but padding in a patch of {stride * feature_size} voxels, whose "
            f"feature map has {feature_size} along its shortest axis: choose rates below {feature_size}, a patch of "
            f"at least {stride * (largest + 1)} voxels, or scaled=True."
        )
    return tuple(rates)


class DenseASPP3D(nn.Module):
    """Look at a feature map at many scales: atrous convolutions, each of which sees the outputs of all before it.

    A block is BatchNorm, ReLU, 1x1x1 convolution, BatchNorm, ReLU, 3x3x3 atrous convolution, dropout. In contrast to
    the published 2D code, the first block has its BatchNorm too, and BatchNorm's momentum is torch's 0.1, not 0.0003.
    The default widths are ours, smaller than in 2D, since a 3x3x3 kernel has three times the weights of a 3x3 one.

    Args:
        in_channels: of the feature map.
        rates: of the atrous convolutions, one block each; see :func:`fit_rates` for what fits a map.
        bottleneck_channels: that each 1x1x1 convolution makes.
        growth_channels: that each block adds.
        dropout: probability of dropping an added channel during training.
        checkpointing: compute the activations inside blocks again in the backward pass, rather than keep them.

    Attributes:
        out_channels: ``in_channels + len(rates) * growth_channels``.

    Raises:
        ValueError: if there are no rates, or a rate or a width is not a positive integer.

    Example:
        >>> DenseASPP3D(512, rates=(1, 2, 4))(torch.zeros(1, 512, 8, 8, 8)).shape
        torch.Size([1, 704, 8, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        rates: Sequence[int] = RATES,
        bottleneck_channels: int = 256,
        growth_channels: int = 64,
        dropout: float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check_rates(rates)
        if min(bottleneck_channels, growth_channels) < 1:
            widths = f"bottleneck_channels is {bottleneck_channels} and growth_channels {growth_channels}"
            raise ValueError(f"{widths}, but both must be positive.")
        self.checkpointing = checkpointing
        self.out_channels = in_channels + len(rates) * growth_channels
        self.blocks = nn.ModuleList(
            AtrousBlock(in_channels + i * growth_channels, bottleneck_channels, growth_channels, rate, dropout)
            for i, rate in enumerate(rates)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, H, W, D) to (B, out_channels, H, W, D): ``x``, then what each block found."""
        features = [x]
        for block in self.blocks:
            if not is_scripting() and self.checkpointing and self.training:
                # A list of its own: the block sees it again in the backward pass, when this one has grown.
                features.append(_checkpointed(block, list(features)))
            else:
                features.append(block(features))
        return torch.cat(features, dim=1)


class AtrousBlock(nn.Sequential):
    """One block of :class:`DenseASPP3D`."""

    def __init__(self, in_channels: int, bottleneck: int, growth: int, rate: int, dropout: float) -> None:
        super().__init__(
            nn.BatchNorm3d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(in_channels, bottleneck, kernel_size=1, bias=False),
            nn.BatchNorm3d(bottleneck),
            nn.ReLU(inplace=True),
            nn.Conv3d(bottleneck, growth, kernel_size=3, padding=rate, dilation=rate, bias=False),
            nn.Dropout3d(dropout),
        )

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Map maps (B, any, H, W, D) with in_channels in sum to (B, growth, H, W, D).

        They are joined here and not before, so that checkpointing does not keep the joint map either.
        """
        x = torch.cat(features, dim=1)
        for layer in self:
            x = layer(x)
        return x


class Med3DDenseASPPNet(nn.Module):
    """Segment a volume with the dilated encoder, DenseASPP, and a decoder: the paper's or one with skip connections.

    Args:
        num_classes: background included.
        depth: of the encoder, see :class:`DilatedResNet`; the paper's is 152.
        roi_size: size in voxels that the network is trained on, (H, W, D). It decides only which rates fit; the network
            takes any size.
        rates: of DenseASPP.
        scaled: scale the rates to that size, see :func:`fit_rates`, rather than refuse those that do not fit.
        checkpointing: while training, compute the activations inside the blocks of encoder and DenseASPP again in the
            backward pass, rather than keep them: the same outputs, gradients and BatchNorm statistics for much less
            memory and the time of a second forward pass.
        dropout: probability of dropping a channel during training, in DenseASPP and before the classifier.
        bottleneck_channels: see :class:`DenseASPP3D`.
        growth_channels: see :class:`DenseASPP3D`.
        decoder: "paper" for the 1x1x1 convolution and up-sampling, "unet" for a :class:`UNetDecoder` instead.
        deep_supervision: of "unet", see there.
        **encoder: further arguments of :class:`DilatedResNet`.

    Attributes:
        rates: those really used.

    Raises:
        ValueError: for fewer than two classes, a roi_size that is not three positive integers, rates that do not fit.

    Example:
        >>> network = Med3DDenseASPPNet(num_classes=2, depth=10, roi_size=(64, 64, 32))
        >>> network.rates, network(torch.zeros(1, 1, 64, 60, 33)).shape
        ((1, 1, 1, 2, 2), torch.Size([1, 2, 64, 60, 33]))
    """

    def __init__(
        self,
        num_classes: int = 2,
        depth: int = 152,
        roi_size: Sequence[int] = (128, 128, 128),
        rates: Sequence[int] = RATES,
        scaled: bool | str = True,
        checkpointing: bool | str = False,
        dropout: float = 0.1,
        bottleneck_channels: int = 256,
        growth_channels: int = 64,
        decoder: str = "paper",
        deep_supervision: bool | str = False,
        **encoder: Any,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}, but must be 2 or more, background included.")
        if len(roi_size) != 3 or min(roi_size) < 1:
            raise ValueError(f"roi_size is {roi_size!r}, but must be three positive integers.")
        scaled, checkpointing = as_flag("scaled", scaled), as_flag("checkpointing", checkpointing)
        self.encoder = DilatedResNet(depth, **encoder)
        # The encoder rounds a size up to a multiple of its stride.
        strides = self.encoder.output_stride
        shortest, stride = min((-(-size // stride), stride) for size, stride in zip(roi_size, strides, strict=True))
        self.rates = fit_rates(rates, shortest, scaled, stride)
        if checkpointing:
            for name in ("layer1", "layer2", "layer3", "layer4"):
                setattr(self.encoder, name, CheckpointedSequential(*self.encoder.get_submodule(name).children()))
        self.aspp = DenseASPP3D(
            self.encoder.channels[-1], self.rates, bottleneck_channels, growth_channels, dropout, checkpointing
        )
        self.dropout = nn.Dropout3d(dropout)
        if decoder == "unet":
            self.decoder = UNetDecoder(self.encoder, num_classes, self.aspp.out_channels, deep_supervision)
        else:
            self.classifier = nn.Conv3d(self.aspp.out_channels, num_classes, kernel_size=1)
        self.factors = [float(x) for x in self.encoder.output_stride]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, in_channels, H, W, D) of any size to logits (B, num_classes, H, W, D), see the decoder."""
        maps = self.encoder(x)
        deepest = self.dropout(self.aspp(maps[-1]))
        if hasattr(self, "decoder"):
            maps.append(deepest)
            return self.decoder(x, maps)
        return upsample_to(x, self.classifier(deepest), self.factors)


class CheckpointedSequential(nn.Sequential):
    """A sequence, and names of parameters, as torch's, that keeps only what lies between its modules in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the modules one after the other."""
        for module in self:
            x = _checkpointed(module, x) if not is_scripting() and self.training else module(x)
        return x


def _checkpointed(module: nn.Module, x: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """Run a module now, and once more in the backward pass, where it changes no BatchNorm statistics."""
    if torch.compiler.is_compiling():
        # It takes no context, and needs none: a compiled graph changes statistics once.
        return checkpoint(module, x, use_reentrant=False)
    return checkpoint(module, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _unchanged_buffers(module)))


@contextmanager
def _unchanged_buffers(module: nn.Module) -> Iterator[None]:
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)


def _check_rates(rates: Sequence[int]) -> None:
    if not rates or any(not isinstance(rate, int) or rate < 1 for rate in rates):
        raise ValueError(f"rates is {rates!r}, but must be a list of one or more positive integers.")
