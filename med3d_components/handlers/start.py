"""How a training starts, from pre-trained weights, and each of its epochs: by seed, epoch and rank alone."""

from __future__ import annotations

import logging

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.utils import set_determinism
from torch import nn

from med3d_components.data import DomainBatchSampler
from med3d_components.utils import as_flag
from med3d_components.weights import load_encoder
from med3d_components.weights.overlap import describe_overlap

__all__ = ["EpochSeeder", "PretrainedEncoder"]

logger = logging.getLogger(__name__)


class PretrainedEncoder:
    """Load pre-trained weights into a network's encoder when a fresh training starts.

    A resumed training goes on from its own checkpoint. Warns if the weights may have seen the data. What was loaded is
    in the engine's ``state.pretrained``.

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

    def load(self, engine: Engine) -> None:
        """Load the weights."""
        if self.source is None or self.resume:
            return
        engine.state.pretrained = report = load_encoder(self.network, self.source)
        for dataset in self.datasets:
            if overlap := describe_overlap(report, dataset):
                logger.warning("%s", overlap)


class EpochSeeder:
    """Give each epoch its own order and its own seed; list it before the handlers that validate and save.

    MONAI calls ``set_epoch`` on a ``DistributedSampler`` only. Seeding anew in each epoch makes a resumed run draw
    what the uninterrupted one would have drawn. At the end of an epoch the BatchNorm statistics of the first process
    go to all others, so that all validate the same network.

    Args:
        sampler: told the number of each epoch.
        network: the network, without a distributed wrapper.
        seed: of the run.
    """

    def __init__(self, sampler: DomainBatchSampler, network: nn.Module, seed: int = 0) -> None:
        self.sampler = sampler
        self.network = network
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.share_buffers)

    def start_epoch(self, engine: Engine) -> None:
        """Seed the epoch."""
        self.sampler.set_epoch(engine.state.epoch)
        set_determinism(seed=(self.seed * 1_000_003 + engine.state.epoch * 1_009 + idist.get_rank()) % 2**32)

    def share_buffers(self) -> None:
        """Copy the first process's buffers to all others."""
        if idist.get_world_size() > 1:
            for buffer in self.network.buffers():
                idist.broadcast(buffer, src=0)
