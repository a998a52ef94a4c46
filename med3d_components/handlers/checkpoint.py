"""Save what a run decided and learnt, and continue a run that was killed.

In ``ckpt_dir``, by default ``models/`` below ``run_dir``, and in ``run_dir``::

    models/model.pt          network with the best score so far, a plain state_dict; the last one if none has a score
    models/settings.json     what inference must know: depth, domains, spacing, intensity rule
    checkpoints/encoder.pt   encoder of that network: {"state_dict", "settings"}, MedicalNet key names
    checkpoints/last.pt      all that a resume needs: network, optimiser, schedule, scaler of fp16, epoch, best score
    checkpoints/previous/N/  the above of earlier runs; a fresh run moves them there
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn

from med3d_components.engines import PrecisionTrainer
from med3d_components.utils import as_flag, atomic_path, move_aside, write_json
from med3d_components.weights import load_checkpoint

__all__ = ["StrictCheckpointLoader", "TrainingCheckpoint"]

logger = logging.getLogger(__name__)


class TrainingCheckpoint:
    """Keep the best network and the last state, and resume from the latter.

    MONAI's CheckpointSaver forgets the best score at a resume, so that the first validation afterwards overwrites a
    better model. List this handler after those that validate and step the schedule. All writes are atomic, and
    model and settings are those of one moment unless the process is killed between the two.

    Args:
        ckpt_dir: folder of the best network and its settings.
        run_dir: parent of ``checkpoints/``.
        network: without a distributed wrapper; its encoder is in ``network.encoder``.
        optimizer: whose state is kept.
        lr_scheduler: whose state is kept.
        evaluator: the engine whose key metric chooses the best network; larger is better. While it is NaN, since no
            validation case has a class, the last network is kept.
        settings: what inference must know, of JSON types.
        resume: true to continue from ``last.pt``; otherwise files of an earlier run are moved aside.

    Raises:
        FileNotFoundError: when the trainer starts, if there is nothing to resume from.
        ValueError: when the trainer starts, if ``last.pt`` was made with other settings.
    """

    def __init__(
        self,
        ckpt_dir: str | os.PathLike[str],
        run_dir: str | os.PathLike[str],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        evaluator: Engine,
        settings: dict[str, Any],
        resume: bool | str = False,
    ) -> None:
        self.model, self.settings_file = Path(ckpt_dir, "model.pt"), Path(ckpt_dir, "settings.json")
        folder = Path(run_dir, "checkpoints")
        self.last, self.encoder, self.previous = folder / "last.pt", folder / "encoder.pt", folder / "previous"
        self.parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "lr_scheduler": lr_scheduler}
        self.evaluator = evaluator
        self.settings = settings
        self.resume = as_flag("resume", resume)
        self.best: dict[str, Any] = {"score": -math.inf, "epoch": 0}

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if self.resume:
            engine.add_event_handler(Events.STARTED, self.load)
        else:
            # Not before a step: what cannot train leaves an earlier model where it is.
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self.make_room)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def make_room(self) -> None:
        """Move an earlier run aside."""
        if idist.get_rank() == 0:
            moved = move_aside([self.model, self.settings_file, self.last, self.encoder], self.previous)
            if moved:
                logger.info("An earlier run was moved to %s.", moved)
        idist.barrier()

    def load(self, engine: PrecisionTrainer) -> None:
        """Restore network, optimiser, schedule, scaler, epoch and best score from ``last.pt``."""
        if not self.last.is_file():
            raise FileNotFoundError(f"{self.last} does not exist, so there is nothing to resume; leave out --resume.")
        state = torch.load(self.last, map_location="cpu", weights_only=True)
        changed = [key for key, value in self.settings.items() if state["settings"].get(key) != value]
        if changed:
            raise ValueError(
                f"{self.last} was made with other settings for {', '.join(changed)}; "
                "resume with the values of that run, or start a new one without --resume."
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        if engine.scaler is not None and "scaler" in state:
            engine.scaler.load_state_dict(state["scaler"])
        before, now = state.get("precision"), engine.precision
        if before not in (None, now.name):
            logger.info("The run so far was in %s; it goes on in %s (%s).", before, now.name, now.reason)
        self.best = state["best"]
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * engine.state.epoch_length
        self.evaluator.state.best_metric = self.best["score"]
        self.evaluator.state.best_metric_epoch = self.best["epoch"]
        name, score = self.evaluator.state.key_metric_name, self.best["score"]
        logger.info("Resumed after epoch %d; best %s %.4f.", state["epoch"], name, score)

    def save(self, engine: PrecisionTrainer) -> None:
        """Save the network if it is the best so far, or nothing could be scored, and the state of the run."""
        validated = self.evaluator.state.epoch == engine.state.epoch
        state = self.evaluator.state
        score = state.metrics[state.key_metric_name] if validated else -math.inf
        if math.isnan(score):
            # MONAI takes the first score for the best, even one that none is greater than.
            state.best_metric, state.best_metric_epoch = -math.inf, -1
        if idist.get_rank() > 0:
            return
        better = score > self.best["score"]
        if better:
            self.best = {"score": float(score), "epoch": engine.state.epoch}
        if better or (math.isnan(score) and not self.best["epoch"] and _is_finite(self.parts["network"])):
            self._save_model()
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        if engine.scaler is not None:
            parts["scaler"] = engine.scaler.state_dict()
        run = {"epoch": engine.state.epoch, "best": self.best, "precision": engine.precision.name}
        _save(self.last, {**parts, **run, "settings": self.settings})

    def _save_model(self) -> None:
        network = self.parts["network"]
        write_json(self.settings_file, self.settings)
        _save(self.model, network.state_dict())
        origin = {name: self.settings[name] for name in ("bundle", "trained_on")}
        content = {"state_dict": network.encoder.state_dict(), "settings": {**origin, **network.encoder.settings}}
        _save(self.encoder, content)


class StrictCheckpointLoader:
    """Load a checkpoint when the engine starts, all of it or nothing, with a readable error.

    Args:
        path: of the checkpoint.
        network: that takes its weights.
        settings: of the checkpoint's training, see :mod:`med3d_components.settings`; the default of a config, which
            only builds a network, names no bundle.

    Raises:
        FileNotFoundError: when the engine starts, if the settings are not those of a training: a network and a
            preprocessing that were guessed give wrong results without a word.
    """

    def __init__(self, path: str | os.PathLike[str], network: nn.Module, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.network = network
        self.settings = settings

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self) -> None:
        """Load the weights."""
        if self.path.is_file() and "bundle" not in self.settings:
            raise FileNotFoundError(
                f"{self.path} has no settings.json beside it, which the training wrote with it: without, neither the "
                "network nor the preprocessing is known. Put it there."
            )
        load_checkpoint(self.network, self.path)


def _is_finite(network: nn.Module) -> bool:
    """Tell whether a training has not diverged."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters())


def _save(path: Path, content: Any) -> None:
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
