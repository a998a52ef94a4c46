"""Signals that ask a training to end: it leaves what a resume needs, and says how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from med3d_components.engines import PrecisionTrainer

__all__ = ["Interruption", "resuming_command"]

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
MODULES = ("monai.bundle", "med3d_components")
"""Whose command lines take ``--resume true``."""


class Interruption:
    """End a training well at SIGTERM, SIGUSR1 or Ctrl-C: what SLURM sends before it kills, and what people press.

    After the step at hand, or at once while validating, ignite's event INTERRUPT lets :class:`TrainingCheckpoint`
    write; then the process ends with exit code 128 plus the number of the signal. Before the first step there is
    nothing to write, and it ends at once. A second Ctrl-C ends it at once, too. Of several processes all end after the
    same step; while validating, those that were asked to.

    List this handler after TrainingCheckpoint.

    Args:
        evaluator: the engine that validates.
    """

    def __init__(self, evaluator: Engine) -> None:
        self.evaluator = evaluator
        self.validating = self.stepped = False
        self.process = 0
        self.previous: dict[signal.Signals, Any] = {}
        self.engine: PrecisionTrainer | None = None

    def attach(self, engine: PrecisionTrainer) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self.install)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.check)
        self.evaluator.add_event_handler(Events.STARTED, self.start_validation)
        self.evaluator.add_event_handler(Events.COMPLETED, self.end_validation)

    def install(self, engine: PrecisionTrainer) -> None:
        """Take the signals until the training ends."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets no other thread do so
        self.engine, self.process = engine, os.getpid()
        self.previous = {number: signal.signal(number, self.receive) for number in SIGNALS}
        engine.at_end.callback(self.restore)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self.previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self.previous = {}

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note a signal, and end at once where that loses nothing."""
        engine = self.engine
        if os.getpid() != self.process or engine is None:
            # A worker of the data loader, which ends with the training: a terminal sends Ctrl-C to all processes, SLURM
            # SIGTERM, and the step at hand needs its batch.
            return
        if engine.state.signal:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
        else:
            engine.state.signal = number
            if self.validating or not self.stepped:
                self.end(engine)

    def check(self, engine: PrecisionTrainer) -> None:
        """End after a step, if any process was asked to."""
        self.stepped = True
        asked = engine.state.stop or (engine.state.signal and idist.get_world_size() == 1)
        # A part of the gradients that are added up cannot be saved.
        if asked and engine.moves:
            self.end(engine)

    def end(self, engine: PrecisionTrainer) -> None:
        """Let the state be written, say how to go on, and end the process.

        Raises:
            SystemExit: always.
        """
        state = engine.state
        if self.stepped:
            engine.fire_event(Events.INTERRUPT)
            if not self.validating:
                idist.barrier()  # else a launcher ends the process that writes, since another one has ended
        number = state.signal or signal.SIGTERM
        if idist.get_rank() == 0:
            made = state.iteration - (state.epoch - 1) * state.epoch_length
            place = f"in epoch {state.epoch}, after step {made} of {state.epoch_length}"
            saved = f"saved {place}" if self.stepped else "before the first step, so nothing was written"
            how = f"; go on with: {resuming_command(sys.orig_argv)}" if state.saved else ""
            sys.stdout.flush()
            print(f"\ninterrupted ({signal.Signals(number).name}), {saved}{how}", file=sys.stderr, flush=True)
        sys.exit(128 + number)

    def start_validation(self) -> None:
        """From here on, end at once, also for a signal that came after the last step."""
        self.validating = True
        if self.engine is not None and self.engine.state.signal:
            self.end(self.engine)

    def end_validation(self) -> None:
        """End after a step again."""
        self.validating = False


def resuming_command(argv: Sequence[str]) -> str:
    """Return the command that goes on with a training.

    Args:
        argv: of the process, as it was started.

    Example:
        >>> resuming_command(["python", "-m", "monai.bundle", "run", "training", "--resume", "false", "--epochs", "3"])
        'python -m monai.bundle run training --epochs 3 --resume true'
        >>> resuming_command(["python", "mine.py"])
        'the same command with --resume true'
    """
    if idist.get_world_size() > 1 or not any(module in argv for module in MODULES):
        return "the same command with --resume true"
    kept: list[str] = []
    after = False
    for part in argv:
        if not after and not part.startswith("--resume="):
            kept.append(part)
        after = part == "--resume"
    return shlex.join([part for part in kept if part != "--resume"] + ["--resume", "true"])
