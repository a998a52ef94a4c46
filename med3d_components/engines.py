"""How a batch is handed to the network, and a trainer for every precision."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import SupervisedTrainer, Workflow
from monai.engines.utils import PrepareBatch, default_prepare_batch

from med3d_components.utils.precision import choose_precision

__all__ = ["PrecisionTrainer", "PrepareBatchDomain"]


class PrepareBatchDomain(PrepareBatch):
    """Take image and label out of a batch and tell the network which domain they are of.

    Raises:
        ValueError: if the batch mixes domains, each of which has its own branch.
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


class PrecisionTrainer(SupervisedTrainer):
    """MONAI's trainer, which scales the loss where it trains in fp16, on any device.

    MONAI's own scaler is for CUDA only, and for its own autocast; here :class:`FastInferer` casts. Gradients of
    ``accumulation_steps`` batches are added up scaled, and a step that overflowed is left out.

    Args:
        precision: auto, bf16, fp16 or float32, see :func:`choose_precision`.
        **options: all of ``SupervisedTrainer``'s arguments but ``amp``.

    Raises:
        ValueError: for any other precision.
    """

    def __init__(self, precision: str = "auto", **options: Any) -> None:
        chosen = choose_precision(precision, options["device"])
        scaled = chosen.name == "fp16"
        super().__init__(amp=scaled, amp_kwargs={"enabled": False}, **options)
        self.precision = chosen
        self.scaler = torch.amp.GradScaler(torch.device(options["device"]).type) if scaled else None

    def run(self) -> None:
        """Train."""
        # Not `Trainer.run`, which puts a scaler for CUDA in the place of ours.
        Workflow.run(self)
