"""bfloat16 autocast around an inferer, on a CPU and a GPU alike."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer

from med3d_components.utils import as_flag

__all__ = ["PrecisionInferer"]


class PrecisionInferer(Inferer):
    """Run another inferer under bfloat16 autocast, on a CPU or a GPU, and return float32.

    MONAI's ``amp`` argument reaches CUDA only. Results are float32, so that a loss is computed in full precision.

    On a CPU, training on inputs of 16 voxels or fewer along the first axis stays in float32: there the maps get two
    voxels thin, and oneDNN (torch 2.13) then makes bfloat16 weight gradients of 3x3x3 convolutions from memory that
    was never written, other ones each time.

    Args:
        inferer: the inferer to run.
        bf16: autocast or not; true or false, also as text.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> PrecisionInferer(SimpleInferer())(torch.ones(1, 4), torch.nn.Linear(4, 2)).dtype
        torch.float32
    """

    def __init__(self, inferer: Inferer, bf16: bool | str = True) -> None:
        super().__init__()
        self.inferer = inferer
        self.bf16 = as_flag("bf16", bf16)

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run ``network`` on ``inputs``; further arguments go to the inferer."""
        thin = inputs.device.type == "cpu" and inputs.ndim == 5 and inputs.shape[2] <= 16 and torch.is_grad_enabled()
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.bf16 and not thin):
            return self.inferer(inputs, network, *args, **kwargs).float()
