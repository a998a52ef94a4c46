"""What learns from which epoch on and how fast, and how each step starts: by seed, epoch, step and rank alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import set_determinism
from torch import nn
from torch.utils.hooks import RemovableHandle

from med3d_components.data import DomainBatchSampler

__all__ = ["EncoderFreezer", "EpochSeeder", "RateSchedule"]

logger = logging.getLogger(__name__)


class EncoderFreezer:
    """Let the encoder learn from some epoch on; before, only what is not the encoder does.

    As with ``frozen_stages`` of :class:`DilatedResNet`, neither weights nor BatchNorm statistics change. The number of
    the epoch alone decides, so a resumed run does what the uninterrupted one would.

    Args:
        network: without a distributed wrapper; its encoder is in ``network.encoder``.
        epochs: in which the encoder does not learn.
    """

    def __init__(self, network: Any, epochs: int) -> None:
        self.encoder = network.encoder
        self.epochs = epochs
        self.learning = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        self.hook: RemovableHandle | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if self.epochs:
            engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)

    def start_epoch(self, engine: Engine) -> None:
        """Freeze the encoder, or release it."""
        frozen = engine.state.epoch <= self.epochs
        if frozen and self.hook is None:
            # MONAI's trainer sets the training mode right before each forward pass.
            self.hook = self.encoder.register_forward_pre_hook(_evaluate)
            logger.info("The encoder learns from epoch %d on.", self.epochs + 1)
        elif not frozen and self.hook is not None:
            self.hook.remove()
            self.hook = None
        for parameter in self.learning:
            parameter.requires_grad_(not frozen)


class RateSchedule:
    """Set the learning rate of each step, by the number of the step alone.

    torch's schedulers count the steps themselves and must be told where a resumed run stands.

    Args:
        optimizer: each of whose groups has the rate that the share is of.
        share: step of the training, from 0, to share of the rate; see :func:`~med3d_components.rates.rate_share`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, share: Callable[[int], float]) -> None:
        self.optimizer = optimizer
        self.share = share
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self.set_rates)
        # A resumed run may have no step left in an epoch that it completes.
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.set_rates)

    def set_rates(self, engine: Engine) -> None:
        """Set the rates of the step at hand."""
        share = self.share(engine.state.iteration - 1)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = share * rate


def _evaluate(module: nn.Module, inputs: Any) -> None:
    module.eval()


class EpochSeeder:
    """Give each epoch its own order, and each step its own seed; list it before the handlers that validate and save.

    MONAI calls ``set_epoch`` on a ``DistributedSampler`` only. Seeding anew in each step makes a resumed run draw
    what the uninterrupted one would have drawn, wherever it goes on. At the end of an epoch the BatchNorm statistics
    of the first process go to all others, so that all validate the same network.

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
        engine.add_event_handler(Events.ITERATION_STARTED, self.start_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.share_buffers)

    def start_epoch(self, engine: Engine) -> None:
        """Seed the epoch."""
        self.sampler.set_epoch(engine.state.epoch, engine.state.first_step)
        engine.state.first_step = 0
        set_determinism(seed=(self.seed * 1_000_003 + engine.state.epoch * 1_009 + idist.get_rank()) % 2**32)

    def start_step(self, engine: Engine) -> None:
        """Seed the step, for what draws in the network: dropout."""
        entropy = (self.seed, engine.state.epoch, engine.state.iteration, idist.get_rank())
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def share_buffers(self) -> None:
        """Copy the first process's buffers to all others."""
        if idist.get_world_size() > 1:
            for buffer in self.network.buffers():
                idist.broadcast(buffer, src=0)
