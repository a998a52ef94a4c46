"""Start a training from the weights of an encoder."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from torch import nn

from med3d_components.utils import as_flag
from med3d_components.weights import load_encoder
from med3d_components.weights.overlap import describe_overlap

__all__ = ["PretrainedEncoder"]

logger = logging.getLogger(__name__)


class PretrainedEncoder:
    """Load pre-trained weights into a network's encoder when a fresh training starts.

    A resumed training goes on from its own checkpoint. Warns if the weights may have seen the data.

    Args:
        network: that :func:`load_encoder` takes, without a distributed wrapper.
        source: what :func:`load_encoder` takes, or "none".
        dataset: name of the data set, or names, that the training is on.
        resume: whether the training is resumed.
    """

    def __init__(
        self, network: nn.Module, source: str | None, dataset: str | list[str], resume: bool | str = False
    ) -> None:
        self.network = network
        self.source = None if str(source).lower() == "none" else str(source)
        self.datasets = [dataset] if isinstance(dataset, str) else dataset
        self.resume = as_flag("resume", resume)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self) -> None:
        """Load the weights."""
        if self.source is None or self.resume:
            return
        report = load_encoder(self.network, self.source)
        for dataset in self.datasets:
            if overlap := describe_overlap(report, dataset):
                logger.warning("%s", overlap)
