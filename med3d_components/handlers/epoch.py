"""What must happen when an epoch begins and ends, so that it depends on seed, epoch and rank alone."""

from __future__ import annotations

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.utils import set_determinism

from med3d_components.data import DomainBatchSampler

__all__ = ["EpochSeeder"]


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

    def __init__(self, sampler: DomainBatchSampler, network: torch.nn.Module, seed: int = 0) -> None:
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
