"""One progress bar for a whole run."""

from __future__ import annotations

import logging
import math
import time
from contextlib import ExitStack
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

__all__ = ["ProgressBar"]

logger = logging.getLogger(__name__)

FORETOLD = 3
"""Step after which a log tells how long a training will take: the first ones are slower than the others."""


class ProgressBar:
    """Show how far a run is: all epochs of a training, or all cases of an evaluation or an inference.

    A training's has its loss, its best score and what it is doing. In a log file, where a bar would fill pages, only
    the estimated time is told. List this handler last, since others may move the start of a run.

    Args:
        desc: what is run, in a word.
        evaluator: of a training: the engine that validates.
    """

    def __init__(self, desc: str, evaluator: Engine | None = None) -> None:
        self.desc = desc
        self.evaluator = evaluator
        self.bar: Any = None
        self.begun = (0, 0.0)
        self.context = ExitStack()

    def attach(self, engine: Engine) -> None:
        """Attach to an engine."""
        if idist.get_rank() > 0:
            return
        engine.add_event_handler(Events.STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        if self.evaluator is not None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.show_best)
            self.evaluator.add_event_handler(Events.ITERATION_STARTED, self.show_validation)
            self.evaluator.add_event_handler(Events.COMPLETED, lambda: self.bar.set_description(self.desc))
        engine.add_event_handler(Events.COMPLETED, self.close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.fail)

    def open(self, engine: Engine) -> None:
        """Begin, where a resumed run goes on."""
        if engine.should_terminate:
            return  # nothing is left to do
        state = engine.state
        # `disable=None`: no bar unless a person looks.
        self.bar = tqdm(
            total=state.epoch_length * state.max_epochs,
            initial=state.iteration,
            desc=self.desc,
            unit="step" if self.evaluator else "case",
            dynamic_ncols=True,
            disable=None,
        )
        self.begun = state.iteration, time.perf_counter()
        if not self.bar.disable:
            self.context.enter_context(logging_redirect_tqdm())

    def step(self, engine: Engine) -> None:
        """Count a step."""
        if self.evaluator is not None:
            self._foretell(engine)
            loss = engine.state.output[0]["loss"] if isinstance(engine.state.output, list) else math.nan
            self.bar.set_postfix({**self._best(), "loss": f"{float(loss):.4f}"}, refresh=False)
        self.bar.update()

    def show_best(self) -> None:
        """Show the best score so far."""
        self.bar.set_postfix(self._best())

    def show_validation(self, engine: Engine) -> None:
        """Show which case is being validated."""
        done = (engine.state.iteration - 1) % engine.state.epoch_length + 1
        self.bar.set_description(f"{self.desc}: validating {done}/{engine.state.epoch_length}")

    def close(self) -> None:
        """End."""
        if self.bar is not None:
            self.bar.close()
        self.context.close()

    def fail(self, error: BaseException) -> None:
        """End with an error, which ignite takes as dealt with where anything handles it."""
        self.close()
        raise error

    def _best(self) -> dict[str, str]:
        state = self.evaluator.state if self.evaluator else None
        return {"best": f"{state.best_metric:.4f}"} if state and state.best_metric_epoch > 0 else {}

    def _foretell(self, engine: Engine) -> None:
        first, start = self.begun
        done, left = engine.state.iteration - first, self.bar.total - engine.state.iteration
        if self.bar.disable and done == FORETOLD and left:
            per_step = (time.perf_counter() - start) / done
            minutes, seconds = divmod(round(per_step * left), 60)
            time_left = f"{minutes} min" if minutes else f"{seconds} s"
            logger.info("%.2g s a step: about %s for the %d left, and the validations.", per_step, time_left, left)
