"""Windows of the size that a domain was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.inferers import Inferer

from med3d_components.inferers.body import BodyWindowInferer

__all__ = ["DomainSlidingWindowInferer"]


class DomainSlidingWindowInferer(Inferer):
    """Slide a window of the size that the network was trained with in a domain, see :class:`BodyWindowInferer`.

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
            name: BodyWindowInferer(size, sw_batch_size=sw_batch_size, overlap=overlap) for name, size in region.items()
        }

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, domain: str, **kwargs: Any) -> torch.Tensor:
        """Segment ``inputs`` (B, C, H, W, D), all of one domain, which the network is given too."""
        return self.inferers[domain](inputs, network, *args, domain=domain, **kwargs)
