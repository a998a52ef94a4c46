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
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.inferer(inputs, network, *args, **kwargs).float()
