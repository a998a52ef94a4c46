"""The dilated 3D ResNet encoder of Med3D (Chen, Ma, Zheng 2019, section 3.2).

A 3D ResNet whose last two stages keep the resolution and dilate their convolutions instead, so that the
deepest map is an eighth of the input rather than a thirty-second. For an input of shape (B, 1, H, W, D), and the
strides of the paper:

====== ======== ========================= =================
map    stride   channels (basic/bottleneck) made by
====== ======== ========================= =================
0      2        64                        stem after its ReLU, before max-pooling
1      4        64 / 256                  layer1
2      8        128 / 512                 layer2
3      8        256 / 1024                layer3, dilation 2
4      8        512 / 2048                layer4, dilation 4
====== ======== ========================= =================

Parameter names equal those of MedicalNet (https://github.com/Tencent/MedicalNet), so its files load as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import nn

from med3d_components.networks.layers import DilatedConv3d, FastMaxPool3d
from med3d_components.utils import as_flag

__all__ = ["DEPTHS", "DilatedResNet", "upsample_to"]


Stride = tuple[int, int, int]


class Architecture(NamedTuple):
    """What a depth stands for: its block, the blocks per stage, and the shortcut of the released weights."""

    block: type[nn.Module]
    blocks: tuple[int, int, int, int]
    shortcut_type: str


DEPTHS = {
    10: Architecture(ResNetBlock, (1, 1, 1, 1), "B"),
    18: Architecture(ResNetBlock, (2, 2, 2, 2), "A"),
    34: Architecture(ResNetBlock, (3, 4, 6, 3), "A"),
    50: Architecture(ResNetBottleneck, (3, 4, 6, 3), "B"),
    101: Architecture(ResNetBottleneck, (3, 4, 23, 3), "B"),
    152: Architecture(ResNetBottleneck, (3, 8, 36, 3), "B"),
    200: Architecture(ResNetBottleneck, (3, 24, 36, 3), "B"),
}
WIDTHS = (64, 128, 256, 512)
STRIDES = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
"""Of conv1, of max-pooling and of layer2 along each axis, as in the paper."""
STAGES = {
    "stem": ("conv1", "bn1"),
    "layer1": ("layer1",),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4", "final"),
}
"""What can be frozen: name to modules."""


class DilatedResNet(nn.Module):
    """Encode a volume with a 3D ResNet of output stride 8.

    Args:
        depth: 10, 18, 34, 50, 101, 152 or 200.
        shortcut_type: "A" (strided identity, padded with zero channels) or "B" (1x1x1 convolution); by default the
            one of the released weights: A for depths 18 and 34, B otherwise.
        in_channels: channels of the input.
        dilations: of the 3x3x3 convolutions in layer3 and layer4. The paper's text says 2; the released weights were
            trained with 2 and 4, which is the default.
        preactivation: BatchNorm and ReLU before each convolution, a variant the paper has at depth 200 only. Nobody
            published its weights.
        strides: of conv1, of max-pooling and of layer2 along each axis, 1 or 2: 1 keeps the few slices of a scan whose
            slices are thick. No weight depends on them. An axis with 1 is not pooled at all.
        frozen_stages: names of ``STAGES`` that do not learn: neither weights nor BatchNorm statistics change.

    Attributes:
        channels: widths of the five maps, shallow to deep.
        strides: three of each of conv1, max-pooling and layer2.
        output_stride: the factor between the input and the deepest map along each axis, (8, 8, 8) by default.

    Raises:
        ValueError: for a depth, shortcut, variant or stage that does not exist, or other strides.

    Example:
        >>> encoder = DilatedResNet(depth=10)
        >>> [tuple(x.shape) for x in encoder(torch.zeros(1, 1, 32, 32, 32))][-1]
        (1, 512, 4, 4, 4)
    """

    def __init__(
        self,
        depth: int,
        shortcut_type: str | None = None,
        in_channels: int = 1,
        dilations: Sequence[int] = (2, 4),
        preactivation: bool | str = False,
        strides: Sequence[Sequence[int]] = STRIDES,
        frozen_stages: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth is {depth!r}, but must be one of {', '.join(map(str, DEPTHS))}.")
        block, blocks, default_shortcut = DEPTHS[depth]
        shortcut_type = default_shortcut if shortcut_type is None else shortcut_type
        if shortcut_type not in ("A", "B"):
            raise ValueError(f"shortcut_type is {shortcut_type!r}, but must be 'A' or 'B'.")
        if len(dilations) != 2 or min(dilations) < 1:
            raise ValueError(f"dilations is {dilations!r}, but must be two positive integers, for layer3 and layer4.")
        if [len(stride) for stride in strides] != [3, 3, 3] or any(x not in (1, 2) for each in strides for x in each):
            raise ValueError(
                f"strides is {strides!r}, but must be three lists, of conv1, max-pooling and layer2, of three numbers "
                "each, 1 or 2, one per axis."
            )
        preactivation = as_flag("preactivation", preactivation)
        if preactivation and depth != 200:
            raise ValueError(f"preactivation needs depth 200, but depth is {depth}.")
        if preactivation:
            block = PreActivationBottleneck
        expansion = int(block.expansion)  # type: ignore[attr-defined]

        self.settings: Mapping[str, Any] = {
            "architecture": "resnet",
            "depth": depth,
            "shortcut_type": shortcut_type,
            "in_channels": in_channels,
            "dilations": list(dilations),
            "preactivation": preactivation,
            "strides": [list(stride) for stride in strides],
        }
        self.strides = [(a, b, c) for a, b, c in strides]
        self.output_stride = total_stride(strides)
        self.channels = (WIDTHS[0], *(width * expansion for width in WIDTHS))
        self.conv1 = nn.Conv3d(in_channels, WIDTHS[0], kernel_size=7, stride=self.strides[0], padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(WIDTHS[0])
        self.act = nn.ReLU(inplace=True)
        a, b, c = self.strides[1]
        self.maxpool = FastMaxPool3d((2 * a - 1, 2 * b - 1, 2 * c - 1), (a, b, c), (a - 1, b - 1, c - 1))
        stages = [
            _make_stage(
                block,
                self.channels[i],
                WIDTHS[i],
                blocks[i],
                self.strides[2] if i == 1 else (1, 1, 1),
                (1, 1, *dilations)[i],
                shortcut_type,
            )
            for i in range(4)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        # A pre-activation network ends on a bare sum; this is the BatchNorm that its last ReLU needs.
        self.final = (
            nn.Sequential(nn.BatchNorm3d(self.channels[-1]), nn.ReLU(inplace=True)) if preactivation else nn.Identity()
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.frozen_modules = self._freeze(frozen_stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the five maps of ``x``.

        Args:
            x: volumes of shape (B, in_channels, H, W, D); any size, one of a multiple of ``output_stride`` is mapped
                exactly.

        Returns:
            Maps of stride 2, 4, 8, 8, 8 by default, with the widths in ``channels``.
        """
        stem = self.act(self.bn1(self.conv1(x)))
        layer1 = self.layer1(self.maxpool(stem))
        layer2 = self.layer2(layer1)
        layer3 = self.layer3(layer2)
        layer4 = self.final(self.layer4(layer3))
        return [stem, layer1, layer2, layer3, layer4]

    def train(self, mode: bool = True) -> DilatedResNet:
        """Set the training mode, in which frozen stages go on using their BatchNorm statistics as they are."""
        super().train(mode)
        for name in self.frozen_modules:
            self.get_submodule(name).eval()
        return self

    def _freeze(self, stages: Sequence[str]) -> list[str]:
        """Stop the gradients of stages and return the names of their modules."""
        unknown = [name for name in stages if name not in STAGES]
        if unknown or isinstance(stages, str):
            raise ValueError(f"frozen_stages is {stages!r}, but must be a list of names among {', '.join(STAGES)}.")
        modules = [module for name in stages for module in STAGES[name]]
        for module in modules:
            self.get_submodule(module).requires_grad_(False)
        return modules


def total_stride(strides: Sequence[Sequence[int]]) -> Stride:
    """Return the product of strides along each axis.

    Args:
        strides: of conv1, max-pooling and layer2, three of each.
    """
    a, b, c = map(math.prod, zip(*strides, strict=True))
    return a, b, c


def upsample_to(x: torch.Tensor, logits: torch.Tensor, stride: list[float]) -> torch.Tensor:
    """Up-sample what was made of the encoder's deepest map of a volume, trilinearly, to the volume's size.

    By the encoder's stride, whatever the size: the encoder rounds a size up to a multiple of it, and stretching its map
    to the size itself would move structures. What lies beyond the volume is cut off.

    Args:
        x: volumes (B, any, H, W, D).
        logits: (B, C, h, w, d), h being H divided by the stride and rounded up, and so on.
        stride: along each axis.

    Returns:
        (B, C, H, W, D).
    """
    up = nn.functional.interpolate(logits, scale_factor=stride, mode="trilinear", align_corners=False)
    return up[:, :, : x.shape[2], : x.shape[3], : x.shape[4]]


class ShortcutA(nn.Module):
    """Subsample the identity and pad it with zero channels.

    MedicalNet and MONAI compute the same values from ``x.data``, which stops the gradient; here it flows.
    """

    def __init__(self, out_channels: int, stride: Stride) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W, D) to (B, out_channels, H / stride, W / stride, D / stride)."""
        x = x[:, :, :: self.stride[0], :: self.stride[1], :: self.stride[2]]
        return nn.functional.pad(x, (0, 0, 0, 0, 0, 0, 0, self.out_channels - x.shape[1]))


class PreActivationBottleneck(nn.Module):
    """Bottleneck with BatchNorm and ReLU before each convolution (He et al. 2016, "Identity Mappings")."""

    expansion = 4

    def __init__(
        self, in_planes: int, planes: int, stride: Stride = (1, 1, 1), downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm3d(in_planes)
        self.conv1 = nn.Conv3d(in_planes, planes, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm3d(planes)
        self.conv3 = nn.Conv3d(planes, planes * self.expansion, kernel_size=1, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.downsample = nn.Identity() if downsample is None else downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_planes, H, W, D) to (B, 4 * planes, H/stride, W/stride, D/stride)."""
        out = self.conv1(self.act(self.bn1(x)))
        out = self.conv2(self.act(self.bn2(out)))
        out = self.conv3(self.act(self.bn3(out)))
        return out + self.downsample(x)


def _make_stage(
    block: type[nn.Module],
    in_channels: int,
    width: int,
    blocks: int,
    stride: Stride,
    dilation: int,
    shortcut_type: str,
) -> nn.Sequential:
    """Stack the blocks of one stage; the first of them changes the width and the resolution."""
    out_channels = width * int(block.expansion)  # type: ignore[attr-defined]
    shortcut: nn.Module | None = None
    if max(stride) > 1 or in_channels != out_channels:
        if shortcut_type == "A":
            shortcut = ShortcutA(out_channels, stride)
        else:
            convolution = nn.Conv3d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            # The pre-activation block adds a bare projection: its sum stays unnormalised on both paths.
            shortcut = convolution if block is PreActivationBottleneck else None
            shortcut = shortcut or nn.Sequential(convolution, nn.BatchNorm3d(out_channels))
    stage = nn.Sequential(block(in_channels, width, stride=stride, downsample=shortcut))
    stage.extend(block(out_channels, width) for _ in range(blocks - 1))
    if dilation > 1:
        _dilate(stage, dilation)
    return stage


def _dilate(stage: nn.Module, dilation: int) -> None:
    """Dilate every 3x3x3 convolution of a stage, its size unchanged; MONAI's blocks have no such argument."""
    for block in stage.modules():
        for name, module in list(block.named_children()):
            if isinstance(module, nn.Conv3d) and module.kernel_size == (3, 3, 3):
                dilated = DilatedConv3d(module.in_channels, module.out_channels, dilation, device="meta")
                dilated.weight = module.weight
                setattr(block, name, dilated)
