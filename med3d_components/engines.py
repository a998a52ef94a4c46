"""How a batch is handed to the network, a trainer for every precision, and how fast what learns."""

from __future__ import annotations

import math
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer, Workflow
from monai.engines.utils import IterationEvents, PrepareBatch, default_prepare_batch

from med3d_components.utils.precision import choose_precision

__all__ = [
    "PrecisionTrainer",
    "PrepareBatchDomain",
    "halving_schedule",
    "parameter_groups",
    "polynomial_schedule",
]


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

    A loss that is not finite ends the training before it reaches the weights. ``state.losses`` holds the loss of each
    step of the epoch, the mean over all processes, so that all of them end together.

    Args:
        precision: auto, bf16, fp16 or float32, see :func:`choose_precision`.
        **options: all of ``SupervisedTrainer``'s arguments but ``amp``.

    Raises:
        ValueError: for any other precision; in training, for a loss that is NaN or infinite.
    """

    def __init__(self, precision: str = "auto", **options: Any) -> None:
        chosen = choose_precision(precision, options["device"])
        scaled = chosen.name == "fp16"
        super().__init__(amp=scaled, amp_kwargs={"enabled": False}, **options)
        self.precision = chosen
        self.scaler = torch.amp.GradScaler(torch.device(options["device"]).type) if scaled else None
        self.state.losses = []
        self.add_event_handler(Events.EPOCH_STARTED, lambda: self.state.losses.clear())
        self.add_event_handler(IterationEvents.LOSS_COMPLETED, self.note_loss)

    def note_loss(self, engine: Engine) -> None:
        """Keep the loss of a step.

        Raises:
            ValueError: if it is not finite; but in fp16, whose scaler leaves such a step out.
        """
        loss = engine.state.output["loss"].item()
        if idist.get_world_size() > 1:
            loss = float(idist.all_reduce(loss)) / idist.get_world_size()
        if math.isfinite(loss):
            engine.state.losses.append(loss)
        elif self.scaler is None:
            cases = ", ".join(map(str, engine.state.batch.get("case", ())))
            raise ValueError(
                f"The loss of step {engine.state.iteration}, epoch {engine.state.epoch}, is {loss} (cases: {cases}); "
                "try a smaller --learning_rate, --precision float32, or look at these cases."
            )

    def run(self) -> None:
        """Train."""
        # Not `Trainer.run`, which puts a scaler for CUDA in the place of ours.
        Workflow.run(self)


def parameter_groups(network: Any, learning_rate: float, decoder_rate_multiple: float = 1) -> list[dict[str, Any]]:
    """Return the parameters for an optimizer: the encoder's with their rate, all others with a multiple of it.

    Args:
        network: without a distributed wrapper; its encoder is in ``network.encoder``.
        learning_rate: of the encoder.
        decoder_rate_multiple: of that rate, for what is not the encoder.

    Example:
        >>> network = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 1)})
        >>> [group["lr"] for group in parameter_groups(network, 0.01, 10)]
        [0.01, 0.1]
    """
    encoder = list(network.encoder.parameters())
    known = {id(parameter) for parameter in encoder}
    others = [parameter for parameter in network.parameters() if id(parameter) not in known]
    return [
        {"params": encoder, "lr": learning_rate},
        {"params": others, "lr": learning_rate * decoder_rate_multiple},
    ]


def polynomial_schedule(epoch: int, epochs: int, power: float = 0.9) -> float:
    """Return the share of the learning rate at an epoch, which falls from 1 to 0.

    For ``LambdaLR``: ``PolynomialLR`` keeps the length of a training in its state, so that one that is continued for
    more epochs goes on with a rate of 0.

    Args:
        epoch: from 0.
        epochs: of the training.
        power: of the polynomial.

    Example:
        >>> [round(polynomial_schedule(epoch, 4), 3) for epoch in range(5)]
        [1.0, 0.772, 0.536, 0.287, 0.0]
    """
    return max(0.0, 1 - epoch / epochs) ** power


def halving_schedule(epoch: int, halving: int) -> float:
    """Return the share of the learning rate at an epoch, which halves after every so many epochs.

    Args:
        epoch: from 0.
        halving: epochs between two halvings.

    Example:
        >>> [halving_schedule(epoch, 2) for epoch in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return float(0.5 ** (epoch // halving))
