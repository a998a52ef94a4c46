"""Layers that compute what PyTorch's own do, in less time on a CPU.

Each steps aside where it would take longer, by a rule on the processor's instructions and the shape of the maps. The
rules are measured (docs/performance.md), and nothing is timed at run time: the same input takes the same way each time.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import nn
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]
from torch.nn.grad import conv3d_input

__all__ = ["DilatedConv3d", "FastMaxPool3d"]

LEAST_CHANNELS = 128 * 256
"""Product of the channels of a dilated convolution from which on its gradient is faster tap by tap."""

LEAST_VOXELS = {"AVX512": 6**3}
OTHERS_LEAST_VOXELS = 8**3
"""And the voxels of its map, of all of a batch, by the instructions that torch uses."""

MOST_POOLED = 64 * 48**3
"""Numbers of a map up to which oneDNN pools it faster, with AVX-512; beyond, copying them takes longer than pooling."""


class DilatedConv3d(nn.Conv3d):
    """A 3x3x3 convolution with dilation that keeps the size of its input, without bias.

    Outputs and gradients are those of :class:`torch.nn.Conv3d`, up to rounding. On a CPU the gradient of the weight
    is computed tap by tap, only from the voxels that the tap sees inside the map: with a dilation of 4 on the map of
    8x8x8 voxels that a cube of 64 has, more than two thirds of all products are with padding, which oneDNN computes,
    too. Small maps and few channels are left to it.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        dilation: of the kernel, along each axis.
        **options: ``device`` and ``dtype`` of the weight.

    Example:
        >>> DilatedConv3d(4, 8, dilation=2)(torch.zeros(1, 4, 6, 7, 8)).shape
        torch.Size([1, 8, 6, 7, 8])
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int, **options: Any) -> None:
        super().__init__(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, H, W, D) to (B, out_channels, H, W, D)."""
        # Folding BatchNorm gives it a bias, after which it does not learn.
        learns = torch.is_grad_enabled() and self.weight.requires_grad and self.bias is None
        if not is_scripting():  # noqa: SIM102 - a condition of its own, for TorchScript to leave out what is in it
            if learns and not is_tracing() and _suits_taps(x, self.weight):
                weight = self.weight
                if torch.is_autocast_enabled("cpu"):
                    # Autocast knows PyTorch's own functions only.
                    x, weight = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (x, weight))
                return _TapwiseGradient.apply(x, weight, self.dilation[0])
        return self._conv_forward(x, self.weight, self.bias)


class FastMaxPool3d(nn.MaxPool3d):
    """Max-pooling by oneDNN where that is faster than :class:`torch.nn.MaxPool3d`, for the same outputs.

    With AVX-512 it takes a third of the time for maps up to ``MOST_POOLED``, without it longer. PyTorch uses it for
    tensors in oneDNN's own layout only, so they are converted to it and back. Where voxels of a window are equal, the
    gradient may go to another one of them.

    Example:
        >>> FastMaxPool3d(kernel_size=3, stride=2, padding=1)(torch.zeros(1, 4, 6, 7, 8)).shape
        torch.Size([1, 4, 3, 4, 4])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W, D) to the maxima of its windows."""
        if not is_scripting():  # noqa: SIM102 - a condition of its own, for TorchScript to leave out what is in it
            if _suits_onednn(x):
                return super().forward(x.to_mkldnn()).to_dense()
        return nn.functional.max_pool3d(x, self.kernel_size, self.stride, self.padding, self.dilation)


def _suits_taps(x: torch.Tensor, weight: torch.Tensor) -> bool:
    if x.device.type != "cpu" or weight.shape[0] * weight.shape[1] < LEAST_CHANNELS:
        return False
    least = LEAST_VOXELS.get(torch.backends.cpu.get_cpu_capability(), OTHERS_LEAST_VOXELS)
    return x.numel() // x.shape[1] >= least


def _suits_onednn(x: torch.Tensor) -> bool:
    # Neither fake tensors nor traced graphs know its layout, and in channels last PyTorch's own pooling is faster.
    if type(x) is not torch.Tensor or is_tracing() or x.device.type != "cpu" or not x.is_contiguous():
        return False
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    if x.numel() > MOST_POOLED:
        return False
    if x.dtype is torch.bfloat16:
        # Older processors cannot.
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return x.dtype is torch.float32


class _TapwiseGradient(torch.autograd.Function):
    """The convolution of :class:`DilatedConv3d` as a function of input, weight and dilation."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, dilation: int) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return nn.functional.conv3d(x, weight, padding=dilation, dilation=dilation)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, None]:
        x, weight = ctx.saved_tensors
        to_input = None
        if ctx.needs_input_grad[0]:
            to_input = conv3d_input(x.shape, weight, gradient, padding=ctx.dilation, dilation=ctx.dilation)
        return to_input, _weight_gradient(x, gradient, ctx.dilation), None


def _weight_gradient(x: torch.Tensor, gradient: torch.Tensor, dilation: int) -> torch.Tensor:
    """Return the gradient (C_out, C_in, 3, 3, 3) of the weight.

    Args:
        x: input of shape (B, C_in, H, W, D).
        gradient: of the output, (B, C_out, H, W, D).
        dilation: of the kernel.
    """
    # Channels last, so that a box of voxels is a matrix of voxels and channels.
    x, gradient = (tensor.permute(0, 2, 3, 4, 1).contiguous() for tensor in (x, gradient))
    channels_in, channels_out = x.shape[-1], gradient.shape[-1]
    taps = []
    for tap in product((-dilation, 0, dilation), repeat=3):
        seen, seeing = x, gradient
        for axis, offset in enumerate(tap, start=1):
            length = x.shape[axis]
            inside = max(length - abs(offset), 0)
            seen = seen.narrow(axis, min(max(offset, 0), length), inside)
            seeing = seeing.narrow(axis, min(max(-offset, 0), length), inside)
        taps.append(seeing.reshape(-1, channels_out).T @ seen.reshape(-1, channels_in))
    return torch.stack(taps, dim=-1).unflatten(-1, (3, 3, 3))
