from __future__ import annotations

import pytest
from ignite.engine import Engine, Events

from med3d_components.handlers import EarlyStop


def epochs_run(patience: int, best: list[int], interval: int = 1) -> int:
    """Train ten epochs, after each of which the best epoch is the one in the list; return how many it took."""
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    trainer.state.epoch_length = 1
    evaluator.state.epoch, evaluator.state.best_metric_epoch = 0, -1

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        if trainer.state.epoch % interval == 0:
            evaluator.state.epoch = trainer.state.epoch
            evaluator.state.best_metric_epoch = best[trainer.state.epoch - 1]

    EarlyStop(evaluator, patience).attach(trainer)
    trainer.run([0], max_epochs=10)
    return int(trainer.state.epoch)


def test_training_ends_when_the_best_epoch_lies_too_far_back() -> None:
    assert epochs_run(3, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2]) == 5
    assert epochs_run(3, [1, 2, 2, 2, 5, 5, 5, 8, 8, 8]) == 10
    assert epochs_run(0, [1] * 10) == 10


def test_only_an_epoch_that_was_validated_ends_a_training() -> None:
    assert epochs_run(2, [5] * 10, interval=5) == 10
    assert epochs_run(4, [3] * 10, interval=3) == 9


def test_nothing_ends_before_the_first_validation() -> None:
    assert epochs_run(2, [-1] * 10) == 10


def test_a_negative_patience_is_refused() -> None:
    with pytest.raises(ValueError, match="patience is -1, but must be 0"):
        EarlyStop(Engine(lambda engine, batch: None), -1)
