"""Reduced precision around an inferer, on any device."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer

from med3d_components.utils.precision import choose_precision

__all__ = ["PrecisionInferer"]


class PrecisionInferer(Inferer):
    """Run another inferer under autocast where the precision asks for it, and return float32.

    MONAI's ``amp`` argument reaches CUDA only. Results are float32, so that a loss is computed in full precision.

    On a CPU, training on inputs of 16 voxels or fewer along the first axis stays in float32: there the maps get two
    voxels thin, and oneDNN (torch 2.13) then makes bfloat16 weight gradients of 3x3x3 convolutions from memory that
    was never written, other ones each time.

    Args:
        inferer: the inferer to run.
        precision: auto, bf16, fp16 or float32, see :func:`choose_precision`; the device is that of the input.

    Raises:
        ValueError: for any other precision.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> PrecisionInferer(SimpleInferer())(torch.ones(1, 4), torch.nn.Linear(4, 2)).dtype
        torch.float32
    """

    def __init__(self, inferer: Inferer, precision: str = "auto") -> None:
        super().__init__()
        choose_precision(precision)
        self.inferer = inferer
        self.precision = precision

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run ``network`` on ``inputs``; further arguments go to the inferer."""
        dtype = choose_precision(self.precision, inputs.device).dtype
        thin = inputs.device.type == "cpu" and inputs.ndim == 5 and inputs.shape[2] <= 16 and torch.is_grad_enabled()
        reduced = dtype is not torch.float32 and not thin
        with torch.autocast(inputs.device.type, dtype=dtype if reduced else None, enabled=reduced):
            return self.inferer(inputs, network, *args, **kwargs).float()
