"""How fast what learns: the rate of each part of a network, and its share at each step of a training."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["SCHEDULES", "default_learning_rate", "default_rate_multiple", "parameter_groups", "rate_share"]

SCHEDULES = ("cosine", "polynomial", "halving")


def parameter_groups(network: Any, learning_rate: float, decoder_rate_multiple: float = 1) -> list[dict[str, Any]]:
    """Return the parameters for an optimizer: the encoder's with their rate, all others with a multiple of it.

    Args:
        network: without a distributed wrapper; its encoder is in ``network.encoder``.
        learning_rate: of the encoder.
        decoder_rate_multiple: of that rate, for what is not the encoder.

    Example:
        >>> import torch
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


def default_learning_rate(source: str, recipe: str = "paper") -> float:
    """Return the learning rate of an encoder.

    As in the paper: 0.01 from scratch, 0.001 from pre-trained weights. The modern recipe, whose AdamW needs no more,
    has 0.001 and 0.0002; its decoder has 0.001 always, see :func:`default_rate_multiple`.

    Args:
        source: of the weights, or "none".
        recipe: "paper" or "modern".

    Example:
        >>> [default_learning_rate(source, "modern") for source in ("none", "medicalnet")]
        [0.001, 0.0002]
    """
    scratch, pretrained = (0.01, 0.001) if recipe == "paper" else (0.001, 0.0002)
    return scratch if _from_scratch(source) else pretrained


def default_rate_multiple(source: str, recipe: str) -> float:
    """Return at how many times the encoder's rate the decoder learns: 5 for a pre-trained one in the modern recipe.

    Args:
        source: of the weights, or "none".
        recipe: "paper" or "modern".

    Example:
        >>> [default_rate_multiple(source, "modern") for source in ("none", "medicalnet")]
        [1, 5]
    """
    return 1 if recipe == "paper" or _from_scratch(source) else 5


def rate_share(
    step: int, steps: int, epochs: int, schedule: str, warmup_steps: int = 0, halving: int | None = None
) -> float:
    """Return the share of the learning rate at a step.

    It depends on nothing that was saved: a training that is continued for more epochs goes on along their curve.

    Args:
        step: of the training, from 0.
        steps: of an epoch.
        epochs: of the training.
        schedule: "cosine" falls from 1 to 0 with each step; "polynomial", of power 0.9, and "halving" with each epoch.
        warmup_steps: at the start, in which the share rises to what it would be, as well.
        halving: epochs between two halvings.

    Example:
        >>> [round(rate_share(step, 1, 4, "polynomial"), 3) for step in range(5)]
        [1.0, 0.772, 0.536, 0.287, 0.0]
        >>> [round(rate_share(step, 2, 2, "cosine", warmup_steps=2), 3) for step in range(5)]
        [0.5, 0.854, 0.5, 0.146, 0.0]
        >>> [rate_share(step, 1, 5, "halving", halving=2) for step in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    epoch = step // steps
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if schedule == "halving":
        return warm * 0.5 ** (epoch // (halving or epochs))
    if schedule == "polynomial":
        return warm * max(0.0, 1 - epoch / epochs) ** 0.9
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / (steps * epochs))))


def _from_scratch(source: str) -> bool:
    return str(source).lower() == "none"
