"""The running average of a network's weights, which is steadier than the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

__all__ = ["WeightAverage"]


class WeightAverage:
    """Average the weights of a network over the steps of a training, by ignite's ``EMAHandler``.

    The average is what is validated and kept. Its memory is short at the start, when the weights move fast: it grows
    from ten steps to its full length. Statistics of BatchNorm are those of the moment.

    :class:`TrainingCheckpoint` attaches it.

    Args:
        network: without a distributed wrapper.
        decay: share of the average that each step keeps, below 1; with 0 there is no average.
        warmup_steps: in which the memory grows.

    Attributes:
        network: the average, in evaluation mode; with a decay of 0, the network itself.

    Example:
        >>> import torch
        >>> average = WeightAverage(torch.nn.Linear(1, 1), decay=0.999)
        >>> average.network.training
        False
    """

    def __init__(self, network: Any, decay: float = 0.999, warmup_steps: int = 200) -> None:
        self.online = network
        self.handler = EMAHandler(network, 1 - decay, max(0.1, 1 - decay), warmup_steps) if decay else None
        self.network: Any = network if self.handler is None else self.handler.ema_model

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if self.handler is not None:
            engine.add_event_handler(Events.STARTED, self.start)
            self.handler.attach(engine)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep_frozen)

    def start(self) -> None:
        """Begin with the weights as they are."""
        self.network.load_state_dict(self.online.state_dict())

    def keep_frozen(self) -> None:
        """Take weights that do not learn as they are: to average equal numbers rounds them, a little at each step."""
        for weights, average in zip(self.online.parameters(), self.network.parameters(), strict=True):
            if not weights.requires_grad:
                average.copy_(weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs; nothing where there is no average."""
        if self.handler is None:
            return {}
        return {"network": self.network.state_dict(), "steps": self.handler.momentum_scheduler.event_index}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what :meth:`state_dict` returned; with nothing, from the weights as they are."""
        if self.handler is not None:
            self.network.load_state_dict(state["network"] if state else self.online.state_dict())
            self.handler.momentum_scheduler.event_index = state.get("steps", 0)
