"""End a training that no longer gets better."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events

__all__ = ["EarlyStop"]

logger = logging.getLogger(__name__)


class EarlyStop:
    """Stop the training when its validation has not improved for some epochs.

    MONAI's EarlyStopHandler counts from zero again after a resume; this one asks the evaluator which epoch was best,
    which :class:`TrainingCheckpoint` restores. Only an epoch that was validated can be the last. List it after the
    handlers that validate and save.

    Args:
        evaluator: the engine that validates.
        patience: epochs without a better score before the training ends; 0 for never.

    Raises:
        ValueError: for a negative patience.
    """

    def __init__(self, evaluator: Engine, patience: int = 0) -> None:
        if patience < 0:
            raise ValueError(f"patience is {patience}, but must be 0 (never stop) or a positive number of epochs.")
        self.evaluator = evaluator
        self.patience = patience

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if self.patience:
            # A run that had ended is not to make another epoch at each resume.
            engine.add_event_handler(Events.STARTED, self.start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.check)

    def start(self, engine: Engine) -> None:
        """Leave a run that had ended as it is."""
        if not engine.should_terminate:
            self.check(engine, skip_completed=True)

    def check(self, engine: Engine, skip_completed: bool = False) -> None:
        """End the training if the best epoch lies too far back."""
        state, epoch = self.evaluator.state, engine.state.epoch
        since = epoch - state.best_metric_epoch
        if state.best_metric_epoch > 0 and state.epoch == epoch and since >= self.patience:
            logger.info("Stopped: no better score than that of epoch %d in %d epochs.", state.best_metric_epoch, since)
            engine.terminate(skip_completed)
