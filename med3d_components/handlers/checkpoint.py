"""Save what a run decided and learnt, and continue a run that was killed.

In ``ckpt_dir``, by default ``models/`` below ``run_dir``, and in ``run_dir``::

    models/model.pt          network with the best score so far, a plain state_dict; the last one if none has a score
    models/settings.json     what inference must know: depth, domains, spacing, intensity rule
    models/split.json        which cases trained it and which validated
    checkpoints/encoder.pt   encoder of that network: {"state_dict", "settings", "split", "kept"}, MedicalNet key names;
                             "kept" is {"epoch", "score"} of it
    checkpoints/last.pt      all that a resume needs: network, average of its weights, optimiser, scaler of fp16, step,
                             best score, options
    checkpoints/previous/N/  the above of earlier runs; a fresh run moves them there
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from med3d_components.data.split_file import without_names
from med3d_components.engines import PrecisionTrainer
from med3d_components.handlers.average import WeightAverage
from med3d_components.handlers.resume import find_best, find_changes, find_place
from med3d_components.utils import as_flag, atomic_path, move_aside, write_json

__all__ = ["TrainingCheckpoint"]

logger = logging.getLogger(__name__)


class TrainingCheckpoint:
    """Keep the best network and the last state, and resume from the latter.

    MONAI's CheckpointSaver forgets the best score at a resume, so that the first validation afterwards overwrites a
    better model. List this handler after those that validate and step the schedule. All writes are atomic, and
    model and settings are those of one moment unless the process is killed between the two. Nothing is written that
    holds a number that is not finite.

    The last state is written after the first epoch, then when ``checkpoint_minutes`` have passed, at a step that moved
    the optimizer or at the end of an epoch, at the end of the training, and at ignite's event INTERRUPT. A resumed run
    repeats what came after, bit for bit on the same machine. How fast it learns follows from epoch and options, not
    from what was saved. A run that has its epochs is terminated without COMPLETED, and its files stay as they are.

    Args:
        ckpt_dir: folder of the best network and its settings.
        run_dir: parent of ``checkpoints/``.
        network: without a distributed wrapper; its encoder is in ``network.encoder``.
        optimizer: whose state is kept.
        average: of the network's weights, what is kept as the model; it is attached here.
        evaluator: the engine whose key metric chooses the best network; larger is better. While it is NaN, since no
            validation case has a class, the last network is kept. Its ``state.keep_last`` tells of ``keep``.
        settings: what inference must know, of JSON types.
        resume: true to continue from ``last.pt``; otherwise files of an earlier run are moved aside.
        options: of the run, resolved, of JSON types; a resume takes or refuses those that have changed, see
            :class:`Option`.
        config: digests of all else in the config, see :func:`digest_config`; a resume takes what differs, and says so.
        split: which cases train and which validate, of JSON types; None to write nothing of it.
        keep: "best", or "last" for the network of the last validation, and of the end.
        checkpoint_minutes: between two writes of ``last.pt``; 0 to write it after every epoch.

    Raises:
        FileNotFoundError: when the trainer starts, if there is nothing to resume from.
        ValueError: when the trainer starts, if ``last.pt`` was made with options or settings that a resume cannot
            change; when something is to be written that is not finite.
    """

    def __init__(
        self,
        ckpt_dir: str | os.PathLike[str],
        run_dir: str | os.PathLike[str],
        network: Any,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage,
        evaluator: Engine,
        settings: Mapping[str, Any],
        resume: bool | str = False,
        options: Mapping[str, Any] = MappingProxyType({}),
        config: Mapping[str, str] = MappingProxyType({}),
        split: Mapping[str, Any] | None = None,
        keep: str = "best",
        checkpoint_minutes: float = 10,
    ) -> None:
        self.model, self.settings_file = Path(ckpt_dir, "model.pt"), Path(ckpt_dir, "settings.json")
        self.split_file, self.record = Path(ckpt_dir, "split.json"), Path(ckpt_dir, "run.json")
        folder = Path(run_dir, "checkpoints")
        self.last, self.encoder, self.previous = folder / "last.pt", folder / "encoder.pt", folder / "previous"
        self.network, self.optimizer, self.average = network, optimizer, average
        self.evaluator = evaluator
        self.settings = dict(settings)
        self.resume = as_flag("resume", resume)
        self.options, self.config = dict(options), dict(config)
        self.split = None if split is None else dict(split)
        self.keep_last = keep == "last"
        self.seconds = 60 * checkpoint_minutes
        self.best: dict[str, Any] = {"score": -math.inf, "epoch": 0}
        self.kept = 0
        """Epoch of the network in ``model.pt``, if this process has written it."""
        self.completed = 0
        """The last epoch that was completed, with its validation."""
        self.validated = 0
        """The last of them that was validated."""
        self.written: tuple[int, int] | None = None
        """Completed epochs, and steps of the next, in ``last.pt``."""
        self.time = 0.0
        self.changes: dict[str, str] = {}
        """What a resume takes, and a line that says so."""
        self.resumed: dict[str, Any] = {}
        """Content of ``last.pt`` with what is taken; empty where nothing is, and when it was written."""

    def attach(self, engine: PrecisionTrainer) -> None:
        """Attach to a trainer, with the average: MONAI wants a trainer's handlers to be no references."""
        self.average.attach(engine)
        self.evaluator.state.keep_last = self.keep_last
        engine.add_event_handler(Events.STARTED, self.start)
        if self.resume:
            engine.add_event_handler(Events.EPOCH_STARTED, self.take_changes)
            engine.add_event_handler(Events.TERMINATE, self.leave)
        else:
            # Not before a step: what cannot train leaves an earlier model where it is.
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self.make_room)
        if self.seconds:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.save_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.INTERRUPT, self.write)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: PrecisionTrainer) -> None:
        """Begin, or go on."""
        self.time = time.monotonic()
        if self.resume:
            self.load(engine)

    def make_room(self) -> None:
        """Move an earlier run aside."""
        if idist.get_rank() == 0:
            beside = [self.model, self.settings_file, self.split_file, self.record]
            moved = move_aside([*beside, self.last, self.encoder], self.previous)
            if moved:
                logger.info("An earlier run was moved to %s.", moved)
            self._write_split()
        idist.barrier()

    def load(self, engine: PrecisionTrainer) -> None:
        """Restore network, optimiser, scaler, epoch, step and best score from ``last.pt``."""
        if not self.last.is_file():
            raise FileNotFoundError(f"{self.last} does not exist, so there is nothing to resume; leave out --resume.")
        state = torch.load(self.last, map_location="cpu", weights_only=True)
        epoch, step = state["epoch"], state.get("step", 0)
        if self.split is not None and not self.split_file.is_file():
            logger.warning(
                "%s does not exist: the cases of the resumed run were drawn by their names again.", self.split_file
            )
        now = {"settings": self.settings, "options": self.options, "config": self.config}
        self.changes = find_changes(self.last, state, **now)
        if self.changes:
            self.resumed = {**state, **now}
        chosen, precision = state.get("precision"), engine.precision
        if chosen not in (None, precision.name):
            line = f"The run so far was in {chosen}; it goes on in {precision.name} ({precision.reason})."
            self.changes.setdefault("precision", line)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state.get("average", {}))
        self._load_optimizer(state["optimizer"])
        if engine.scaler is not None and "scaler" in state:
            engine.scaler.load_state_dict(state["scaler"])
        self.best = dict(state["best"])
        if not self.keep_last and self.model.is_file() and self.encoder.is_file():
            self.best = find_best(self.best, self.model, self.encoder)
        self.evaluator.state.best_metric = self.best["score"]
        self.evaluator.state.best_metric_epoch = self.best["epoch"]
        self.validated = self.evaluator.state.epoch = state.get("validated", 0)
        self.completed, self.written = epoch, (epoch, step)
        engine.state.saved = self._describe()
        self._go_on(state, engine)

    def take_changes(self, engine: PrecisionTrainer) -> None:
        """Say what the resumed run takes, and keep it, before a network follows from it."""
        engine.remove_event_handler(self.take_changes, Events.EPOCH_STARTED)
        for line in self.changes.values():
            logger.info("%s", line)
        if idist.get_rank() == 0:
            self._write_split()
            if self.resumed:
                _save(self.last, self.resumed)
        self.resumed = {}

    def leave(self, engine: PrecisionTrainer) -> None:
        """Where nothing is left to do, say what was not taken; a model that was lost is written again."""
        if engine.should_terminate != "skip_completed":
            return
        if self.changes:
            logger.info("Not taken, since no epoch follows: %s.", ", ".join(self.changes))
        if idist.get_rank() == 0 and not self.model.is_file():
            self._save_model(engine)
        self.resumed = {}

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """Take what the optimiser has learnt; its rates are those of the options as they are now."""
        built = [{key: x for key, x in group.items() if key != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, now in zip(self.optimizer.param_groups, built, strict=True):
            group.update(now)

    def _go_on(self, state: Mapping[str, Any], engine: PrecisionTrainer) -> None:
        epoch, step, losses, made = find_place(state, engine.state.epoch_length)
        engine.go_on(epoch, step, losses, made)
        if epoch >= engine.state.max_epochs:
            logger.info("Nothing is left to do: the run has ended after epoch %d; give it more by --epochs.", epoch)
            engine.terminate(skip_completed=True)
            return
        name = self.evaluator.state.key_metric_name
        best = f"best {name} {self.best['score']:.4f}" if self.best["epoch"] else "no score yet"
        place = f"epoch {epoch}" if not step else f"step {step} of epoch {epoch + 1}"
        logger.info("Resumed after %s; %s.", place, best)

    def save(self, engine: PrecisionTrainer) -> None:
        """Save the network if it is the best so far, or nothing could be scored, and the state of the run."""
        state, epoch = self.evaluator.state, engine.state.epoch
        validated = state.epoch == epoch
        score = state.metrics[state.key_metric_name] if validated else -math.inf
        better = score > self.best["score"]
        if better:
            self.best = {"score": float(score), "epoch": epoch}
        if math.isnan(score):
            # MONAI takes the first score for the best, even one that none is greater than.
            state.best_metric, state.best_metric_epoch = self.best["score"], self.best["epoch"] or -1
        self.completed, self.validated = epoch, epoch if validated else self.validated
        if idist.get_rank() > 0:
            return
        self._check_finite(engine)
        unscored = math.isnan(score) and not self.best["epoch"]
        if unscored and not self.kept:
            logger.warning("No validation case has a class to be scored, so the network of the last epoch is kept.")
        if better or unscored or (self.keep_last and validated):
            self._save_model(engine)
        if self.written is None or time.monotonic() - self.time >= self.seconds:
            self.write(engine)

    def save_step(self, engine: PrecisionTrainer) -> None:
        """Save the state of the run after a step, if that is due."""
        if engine.moves and time.monotonic() - self.time >= self.seconds:
            self.write(engine)

    def finish(self, engine: PrecisionTrainer) -> None:
        """Save what the end of a training leaves."""
        if idist.get_rank() == 0:
            if not self.model.is_file() or (self.keep_last and self.kept != engine.state.epoch):
                self._check_finite(engine)
                self._save_model(engine)
            self.write(engine)

    def write(self, engine: PrecisionTrainer) -> None:
        """Write ``last.pt``, unless it is that already."""
        epoch, length = engine.state.epoch, engine.state.epoch_length
        # Until all that follows the steps of an epoch has happened, a resume goes on after its last step.
        position = (epoch, 0) if self.completed == epoch else (epoch - 1, engine.state.iteration - (epoch - 1) * length)
        if idist.get_rank() > 0 or position == self.written:
            return
        self._check_finite(engine)
        content = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": position[0],
            "step": position[1],
            "steps": length,
            "made": position[0] * length + position[1] + engine.state.steps_beyond,
            "validated": self.validated,
            "losses": list(engine.state.losses) if position[1] else [],
            "best": self.best,
            "precision": engine.precision.name,
            "settings": self.settings,
            "options": self.options,
            "config": self.config,
        }
        if engine.scaler is not None:
            content["scaler"] = engine.scaler.state_dict()
        _save(self.last, content)
        self.written, self.time = position, time.monotonic()
        engine.state.saved = self._describe()

    def _write_split(self) -> None:
        """Write which cases train before there is a model: a resume must not draw anew."""
        if self.split is not None:
            write_json(self.split_file, self.split)

    def _save_model(self, engine: PrecisionTrainer) -> None:
        write_json(self.settings_file, self.settings)
        network = self.average.network
        _save(self.model, network.state_dict())
        origin = {name: self.settings[name] for name in ("bundle", "trained_on")}
        settings = {**origin, **network.encoder.settings}
        # The encoder goes to others, to whom the names of cases are nothing.
        split = None if self.split is None else without_names(self.split)
        content = {"state_dict": network.encoder.state_dict(), "settings": settings, "split": split}
        # Last, so that what it says of the model is never of a better one than there is.
        state, epoch = self.evaluator.state, engine.state.epoch
        score = float(state.metrics[state.key_metric_name]) if state.epoch == epoch and state.metrics else -math.inf
        score = -math.inf if math.isnan(score) else score
        _save(self.encoder, {**content, "kept": {"epoch": epoch, "score": score}})
        self.kept = epoch
        engine.state.saved = engine.state.saved or str(self.model)

    def _check_finite(self, engine: PrecisionTrainer) -> None:
        """Refuse to write a network, or a state of the optimiser, that is lost."""
        parts: dict[str, torch.Tensor] = {f"the network's {key}": x for key, x in self.network.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            parts |= {f"the optimiser's {key} of parameter {number}": x for key, x in state.items()}
        parts = {name: x for name, x in parts.items() if isinstance(x, torch.Tensor) and x.is_floating_point()}
        if not math.isfinite(torch.nn.utils.get_total_norm(parts.values(), norm_type=math.inf).item()):
            name = next(name for name, x in parts.items() if not torch.isfinite(x).all())
            raise ValueError(
                f"After step {engine.state.iteration}, epoch {engine.state.epoch}, {name} is no longer finite, so "
                f"nothing is saved; {engine.advice}.{engine.last_good}"
            )

    def _describe(self) -> str:
        epoch, step = self.written or (0, 0)
        return (
            f"{self.last} (after epoch {epoch})"
            if not step
            else f"{self.last} (after step {step} of epoch {epoch + 1})"
        )


def _save(path: Path, content: Any) -> None:
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
