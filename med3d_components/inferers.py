"""Inferers: precision on CPU and GPU alike, and windows of the domain's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SlidingWindowInferer

from med3d_components.utils import as_flag

__all__ = ["DomainSlidingWindowInferer", "PrecisionInferer"]


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


class DomainSlidingWindowInferer(Inferer):
    """Slide a window of the size that the network was trained with in a domain.

    Args:
        region: domain name to window in voxels.
        overlap: of neighbouring windows, as a share of the window.
        sw_batch_size: windows per forward pass.

    Example:
        >>> inferer = DomainSlidingWindowInferer({"liver": (16, 16, 16)})
        >>> inferer(torch.ones(1, 1, 24, 24, 9), lambda x, domain: x, domain="liver").shape
        torch.Size([1, 1, 24, 24, 9])
    """

    def __init__(self, region: Mapping[str, Sequence[int]], overlap: float = 0.25, sw_batch_size: int = 4) -> None:
        super().__init__()
        self.inferers = {
            name: SlidingWindowInferer(size, sw_batch_size=sw_batch_size, overlap=overlap, mode="gaussian")
            for name, size in region.items()
        }

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, domain: str, **kwargs: Any) -> torch.Tensor:
        """Segment ``inputs`` (B, C, H, W, D), all of one domain, which the network is given too."""
        return self.inferers[domain](inputs, network, *args, domain=domain, **kwargs)
