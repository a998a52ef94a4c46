"""What the handlers share that collect something of each case and write it when all are through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

__all__ = ["CaseCollector", "is_kept", "join_cases"]


def is_kept(evaluator: Engine) -> bool:
    """Tell whether a training keeps the network that was just validated, so that tables and pictures tell of it.

    It does if the score is the best so far, if none has a score yet, or if it keeps the last network whatever its
    score, which :class:`TrainingCheckpoint` notes as ``keep_last``. An evaluation of its own, or an inference, has no
    other network.

    Args:
        evaluator: whose key metric is compared, as in all that follows ``EPOCH_COMPLETED``.

    Example:
        >>> evaluator = Engine(lambda engine, batch: None)
        >>> evaluator.state.epoch, evaluator.state.best_metric_epoch = 3, 2
        >>> is_kept(evaluator)
        False
    """
    state = evaluator.state
    best = getattr(state, "best_metric_epoch", -1)
    return getattr(state, "keep_last", False) or best < 1 or best == state.epoch


def join_cases(rows: Sequence[Mapping[str, Any]], *others: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a metric with the columns of others behind them, case by case.

    Args:
        rows: each with "case", and "domain" where there are several; they decide the order.
        others: rows of other metrics; where two have a column of one name, the first one's stays.

    Example:
        >>> join_cases([{"case": "a", "dice": 0.9}, {"case": "b", "dice": 0.8}], [{"case": "b", "seconds": 2.0}])
        [{'case': 'a', 'dice': 0.9}, {'case': 'b', 'dice': 0.8, 'seconds': 2.0}]
    """
    found = [{(row.get("domain"), row["case"]): row for row in other} for other in others]
    joined = []
    for row in rows:
        key = row.get("domain"), row["case"]
        beside = {name: value for other in found for name, value in other.get(key, {}).items()}
        joined.append({**row, **{name: value for name, value in beside.items() if name not in row}})
    return joined


class CaseCollector(ABC):
    """Keep something of each case of an evaluation or an inference; at its end the first process writes it.

    Of a training's validation only if the training keeps its network, see :func:`is_kept`.

    Attributes:
        kept: what this run's cases left.
    """

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []

    @abstractmethod
    def keep(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Keep something of one item of a batch, and of what came out of it."""

    @abstractmethod
    def write(self, engine: Engine) -> None:
        """Write what was kept."""

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: self.kept.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep_batch)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def keep_batch(self, engine: Engine) -> None:
        """Keep something of the last batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.keep(item, output)

    def finish(self, engine: Engine) -> None:
        """Write in the first process alone."""
        if idist.get_rank() == 0 and is_kept(engine):
            self.write(engine)
