"""How a batch is handed to the network."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines.utils import PrepareBatch, default_prepare_batch

__all__ = ["PrepareBatchDomain"]


class PrepareBatchDomain(PrepareBatch):
    """Take image and label out of a batch and tell the network which domain they are of.

    Raises:
        ValueError: if the batch mixes domains, each of which has a branch of its own.
    """

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[()], dict[str, str]]:
        """Return image, label, no positional arguments and the keyword argument ``domain``."""
        domains = set(batchdata["domain"])
        if len(domains) != 1:
            raise ValueError(f"A batch must hold one domain, but holds {', '.join(sorted(domains))}.")
        image, label = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        return image, label, (), {"domain": domains.pop()}
