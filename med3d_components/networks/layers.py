"""Layers that compute what PyTorch's own do, in less time on a CPU.

Each steps aside where it would take longer, by a rule on the processor's instructions and the shape of the maps. The
rules are measured (docs/performance.md), and nothing is timed at run time: the same input takes the same way each time.

They step aside, too, where anything but autograd looks at what is computed: ``torch.compile``, ``torch.export``,
tracing, the transforms of ``torch.func``, forward-mode differentiation, dispatch modes, subclasses of tensors. Where a
gradient is differentiated again (``create_graph=True``), torch's own functions compute it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import nn
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd.forward_ad import unpack_dual
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]
from torch.nn.grad import conv3d_input
from torch.utils._python_dispatch import _get_current_dispatch_mode

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
        if not is_scripting():  # noqa: SIM102 - a condition of its own, for TorchScript to leave out what is in it
            # Folding BatchNorm gives it a bias, after which it does not learn.
            if (
                _is_eager(x, self.weight)
                and torch.is_grad_enabled()
                and self.weight.requires_grad
                and self.bias is None
                and _suits_taps(x, self.weight)
            ):
                return _TapwiseGradient.apply(*_autocast(x, self.weight), self.dilation[0])
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
            if _is_eager(x) and _suits_onednn(x):
                if not (torch.is_grad_enabled() and x.requires_grad):
                    return super().forward(x.to_mkldnn()).to_dense()
                # What hooks do to a saved tensor, such as copying it, loses what oneDNN noted in it.
                if torch._C._autograd._top_saved_tensors_default_hooks(True) is None:
                    return _OneDNNPooling.apply(x, self.kernel_size, self.stride, self.padding, self.dilation)
        return nn.functional.max_pool3d(x, self.kernel_size, self.stride, self.padding, self.dilation)


def _is_eager(*tensors: torch.Tensor) -> bool:
    """Tell whether nothing but autograd looks at what is computed from plain tensors."""
    # The cheap questions of a compiler first: it cannot ask the others itself.
    if torch.compiler.is_compiling() or is_tracing():
        return False
    if any(type(tensor) not in (torch.Tensor, nn.Parameter) for tensor in tensors):
        return False
    if torch._C._are_functorch_transforms_active() or _get_current_dispatch_mode() is not None:
        return False
    return not any(is_legacy_batchedtensor(tensor) or unpack_dual(tensor).tangent is not None for tensor in tensors)


def _autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Cast as torch's convolution does under autocast, which knows PyTorch's own functions only."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    dtype = torch.get_autocast_dtype("cpu")
    return tuple(tensor if tensor.dtype is torch.float64 else tensor.to(dtype) for tensor in tensors)


def _suits_taps(x: torch.Tensor, weight: torch.Tensor) -> bool:
    if x.device.type != "cpu" or x.ndim != 5 or weight.shape[0] * weight.shape[1] < LEAST_CHANNELS:
        return False
    least = LEAST_VOXELS.get(torch.backends.cpu.get_cpu_capability(), OTHERS_LEAST_VOXELS)
    return x.numel() // x.shape[1] >= least


def _suits_onednn(x: torch.Tensor) -> bool:
    # In channels last PyTorch's own pooling is faster.
    if x.device.type != "cpu" or x.ndim != 5 or not x.is_contiguous():
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
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = ctx.saved_tensors
        dilation, wanted = ctx.dilation, ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or not _is_eager(gradient):
            three = [dilation] * 3
            to_input, to_weight, _ = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, [1] * 3, three, three, False, [0] * 3, 1, [*wanted, False]
            )
            return to_input, to_weight, None
        # A matrix product would be cast where only the backward pass runs under autocast, a convolution's is not.
        with torch.autocast("cpu", enabled=False):
            to_input = (
                conv3d_input(x.shape, weight, gradient, padding=dilation, dilation=dilation) if wanted[0] else None
            )
            to_weight = _weight_gradient(x, gradient, dilation) if wanted[1] else None
        return to_input, to_weight, None


class _OneDNNPooling(torch.autograd.Function):
    """The pooling of :class:`FastMaxPool3d` as a function of input, kernel size, stride, padding and dilation."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *window: Any) -> torch.Tensor:
        ctx.window = [[value] * 3 if isinstance(value, int) else list(value) for value in window]
        # oneDNN notes the places of the maxima only where torch tells it that a gradient will be asked for.
        with torch.enable_grad():
            inside = x.detach().to_mkldnn().requires_grad_()
            pooled = torch.ops.aten.mkldnn_max_pool3d(inside, *ctx.window).detach()
        ctx.save_for_backward(x, inside.detach(), pooled)
        return pooled.to_dense()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, inside, pooled = ctx.saved_tensors
        aten, window = torch.ops.aten, ctx.window
        if torch.is_grad_enabled() or not _is_eager(gradient):
            _, places = aten.max_pool3d_with_indices(x.detach(), *window)
            to_input = aten.max_pool3d_with_indices_backward(gradient, x, *window, False, places)
        else:
            to_input = aten.mkldnn_max_pool3d_backward(gradient.to_mkldnn(), pooled, inside, *window).to_dense()
        return to_input, None, None, None, None


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
