"""The 3D U-Net of Models Genesis, whole and in the parts that transfer.

Zhou et al. 2019, "Models Genesis: Generic Autodidactic Models for 3D Medical Image Analysis". For an input of shape
(B, in_channels, H, W, D), in the published network of one channel:

====== ======== ========= ===========
map    stride   channels  made by
====== ======== ========= ===========
0      1        64        down_tr64
1      2        128       down_tr128
2      4        256       down_tr256
3      8        512       down_tr512
====== ======== ========= ===========

Parameter names equal those of the published PyTorch file (https://github.com/MrGiovanni/ModelsGenesis), so that it
loads as it is. The code is our own; the published weights are for academic and non-commercial use only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from med3d_components.utils import as_flag

__all__ = ["ContractingPath", "GenesisEncoder", "GenesisEncoderDecoder", "GenesisUNet"]


class ContractingPath(nn.Module):
    """What the parts and the whole U-Net share.

    A stage is two 3x3x3 convolutions, each followed by BatchNorm and ReLU; between stages, max-pooling halves the size.

    Args:
        batch_statistics: normalise by the statistics of the batch at hand in evaluation too, as the published code
            does. A prediction then depends on what else is in its batch.
        in_channels: channels of the input.

    Attributes:
        channels: widths of the four maps, shallow to deep.
        output_stride: the factor between the input and the deepest map along each axis.
        settings: under the keys of :class:`DilatedResNet`'s; what only a ResNet has is None.
    """

    channels = (64, 128, 256, 512)
    output_stride = (8, 8, 8)

    def __init__(self, batch_statistics: bool | str = False, in_channels: int = 1) -> None:
        super().__init__()
        self.settings: Mapping[str, Any] = {
            "architecture": "genesis",
            "depth": None,
            "shortcut_type": None,
            "in_channels": in_channels,
            "dilations": None,
            "preactivation": None,
            "strides": None,
        }
        batch_statistics = as_flag("batch_statistics", batch_statistics)
        self.norm = BatchStatisticsNorm3d if batch_statistics else nn.BatchNorm3d
        # Sizes are rounded up, so that none is refused; the expanding path cuts off what is too much.
        self.pool = nn.MaxPool3d(kernel_size=2, ceil_mode=True)
        self.down_tr64 = nn.Sequential(OrderedDict(ops=_pair(in_channels, 32, 64, self.norm)))
        self.down_tr128 = nn.Sequential(OrderedDict(ops=_pair(64, 64, 128, self.norm)))
        self.down_tr256 = nn.Sequential(OrderedDict(ops=_pair(128, 128, 256, self.norm)))
        self.down_tr512 = nn.Sequential(OrderedDict(ops=_pair(256, 256, 512, self.norm)))

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the four maps of volumes (B, in_channels, H, W, D) of any size, shallow to deep."""
        map64 = self.down_tr64(x)
        map128 = self.down_tr128(self.pool(map64))
        map256 = self.down_tr256(self.pool(map128))
        return [map64, map128, map256, self.down_tr512(self.pool(map256))]


class GenesisEncoder(ContractingPath):
    """Encode a volume with the contracting path of the U-Net.

    Args:
        batch_statistics: see :class:`ContractingPath`, whose attributes it has too.
        in_channels: channels of the input.

    Example:
        >>> encoder = GenesisEncoder()
        >>> [tuple(x.shape) for x in encoder(torch.zeros(1, 1, 32, 32, 32))][-1]
        (1, 512, 4, 4, 4)
    """

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the four maps of ``x``.

        Args:
            x: volumes of shape (B, in_channels, H, W, D); any size, one of a multiple of 8 is mapped exactly.

        Returns:
            Maps of stride 1, 2, 4, 8, with the widths in ``channels``.
        """
        return self.encode(x)


class GenesisEncoderDecoder(ContractingPath):
    """Map a volume to features of its own size with the whole U-Net but its last layer: all that transfers.

    Args:
        batch_statistics: see :class:`ContractingPath`.
        in_channels: channels of the input.

    Attributes:
        features: 64, the channels of the result.

    Example:
        >>> GenesisEncoderDecoder()(torch.zeros(1, 1, 30, 33, 17)).shape
        torch.Size([1, 64, 30, 33, 17])
    """

    features = 64

    def __init__(self, batch_statistics: bool | str = False, in_channels: int = 1) -> None:
        super().__init__(batch_statistics, in_channels)
        self.up_tr256 = UpStage(512, 256, self.norm)
        self.up_tr128 = UpStage(256, 128, self.norm)
        self.up_tr64 = UpStage(128, 64, self.norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, in_channels, H, W, D) of any size to features (B, 64, H, W, D)."""
        return self.decode(self.encode(x))

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Map the encoder's four maps of volumes of size (H, W, D) to features (B, 64, H, W, D)."""
        x = self.up_tr256(maps[3], maps[2])
        x = self.up_tr128(x, maps[1])
        return self.up_tr64(x, maps[0])


class GenesisUNet(GenesisEncoderDecoder):
    """Restore a distorted volume: the network that Models Genesis pre-trains, with its published parameters.

    Args:
        batch_statistics: see :class:`ContractingPath`.
        in_channels: channels of the input; the result has one.

    Attributes:
        encoder: the network itself, since its checkpoints pass all of it on; the loader drops what others lack.

    Example:
        >>> GenesisUNet()(torch.zeros(1, 1, 64, 64, 32)).shape
        torch.Size([1, 1, 64, 64, 32])
    """

    __jit_unused_properties__ = ("encoder",)

    def __init__(self, batch_statistics: bool | str = False, in_channels: int = 1) -> None:
        super().__init__(batch_statistics, in_channels)
        self.out_tr = nn.Sequential(
            OrderedDict(final_conv=nn.Conv3d(self.features, 1, kernel_size=1), sigmoid=nn.Sigmoid())
        )

    @property
    def encoder(self) -> GenesisUNet:
        """Return the network itself."""
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, in_channels, H, W, D) of any size to restored ones (B, 1, H, W, D), in 0 to 1."""
        return self.out_tr(self.decode(self.encode(x)))


class BatchStatisticsNorm3d(nn.BatchNorm3d):
    """BatchNorm that normalises by the batch at hand in evaluation too, and changes its statistics only in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W, D) to the same shape."""
        mean = self.running_mean if self.training else None
        var = self.running_var if self.training else None
        return F.batch_norm(x, mean, var, self.weight, self.bias, True, eps=self.eps)


class UpStage(nn.Module):
    """Double the size, join the map of that size from the contracting path, and convolve twice."""

    def __init__(self, in_channels: int, out_channels: int, norm: type[nn.BatchNorm3d]) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(in_channels, in_channels, kernel_size=2, stride=2)
        self.ops = _pair(in_channels + out_channels, out_channels, out_channels, norm)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, h, w, d) and the skipped map (B, out_channels, H, W, D) to the latter's shape."""
        up = self.up_conv(x)[:, :, : skip.shape[2], : skip.shape[3], : skip.shape[4]]
        return self.ops(torch.cat((up, skip), dim=1))


def _pair(in_channels: int, width: int, out_channels: int, norm: type[nn.BatchNorm3d]) -> nn.Sequential:
    return nn.Sequential(_unit(in_channels, width, norm), _unit(width, out_channels, norm))


def _unit(in_channels: int, out_channels: int, norm: type[nn.BatchNorm3d]) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1),
            bn1=norm(out_channels),
            act=nn.ReLU(inplace=True),
        )
    )
