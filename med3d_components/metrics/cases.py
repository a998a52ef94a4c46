"""What the metrics share: each case counts once, whichever process had it, and has a row of its own."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.transforms.utils import generate_spatial_bounding_box
from numpy.typing import NDArray

__all__ = ["UNNAMED", "Baseline", "CaseMetric", "LabelMapMetric", "foreground_box", "mean_of_known"]

logger = logging.getLogger(__name__)

UNNAMED = "-"
"""The domain of items that name none."""


class CaseMetric(Metric):
    """A metric that notes each case of an evaluation, and scores all of them when it ends.

    It writes into the engine's state: its own value and its parts into ``metrics``, and one row per case, in the order
    of their names, into ``metric_details[<name of the metric>]``. Where items have a "set", rows have it, too.

    With several processes the cases of all are gathered, and one that two processes had counts once, so the result
    is that of a single process.

    Attributes:
        details: what is known of each case.
        sets: domain, if there are several, and case to the "set" of its item.
    """

    details: dict[Any, Any]
    sets: dict[tuple[str | None, str], str]

    def __init__(self) -> None:
        self.details, self.sets = {}, {}
        super().__init__()

    def reset(self) -> None:
        """Forget all cases."""
        self.details, self.sets = {}, {}

    @abstractmethod
    def add(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Note the case of one item of the evaluator's batch, and of what came out of it."""

    @abstractmethod
    def summary(self) -> dict[str, float]:
        """Return the parts of the score over all cases."""

    @abstractmethod
    def score(self) -> float:
        """Return the metric's own value over all cases."""

    @abstractmethod
    def row(self, case: Any, detail: Any) -> dict[str, Any]:
        """Return the row of one of the ``details``."""

    def parts(self, name: str) -> dict[str, float]:
        """Return the parts as they are called beside the metrics of others; ``name`` is this metric's."""
        return self.summary()

    def iteration_completed(self, engine: Engine) -> None:
        """Note the cases of the evaluator's last batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.add(item, output)
            if "set" in item:
                self.sets[item.get("domain"), item["case"]] = item["set"]

    def compute(self) -> float:
        """Return the metric's own value over the cases of all processes."""
        if idist.get_world_size() > 1:
            for details in idist.all_gather(self.details):
                self.details |= details
        return self.score()

    def completed(self, engine: Engine, name: str) -> None:
        """Write the metric, its parts and its rows into the engine's state."""
        super().completed(engine, name)
        engine.state.metrics |= self.parts(name)
        if idist.get_world_size() > 1:
            for sets in idist.all_gather(self.sets):
                self.sets |= sets
        rows = [self.row(case, detail) for case, detail in sorted(self.details.items())]
        engine.state.metric_details[name] = [self._with_set(row) for row in rows]

    def _with_set(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with the set of its case behind the case's name."""
        name = self.sets.get((row.get("domain"), row["case"])) if self.sets else None
        if name is None:
            return row
        first: dict[str, Any] = {key: row[key] for key in ("domain", "case") if key in row}
        return {**first, "set": name, **row}


class LabelMapMetric(CaseMetric):
    """A metric that compares two label maps, class by class, in one data set or in several domains.

    Args:
        classes: class names, background first, or domain name to class names.
    """

    def __init__(self, classes: Mapping[str, Sequence[str]] | Sequence[str]) -> None:
        self.classes = classes if isinstance(classes, Mapping) else {UNNAMED: classes}
        super().__init__()

    @abstractmethod
    def update(self, domain: str, case: str, prediction: torch.Tensor, label: torch.Tensor) -> None:
        """Score one case.

        Args:
            domain: its domain.
            case: its name.
            prediction: label map of shape (1, H, W, D).
            label: the true label map, of the same shape.
        """

    def add(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Score the case of an item, which may have a "domain", by "pred" and "label" of its output."""
        self.update(item.get("domain", UNNAMED), item["case"], output["pred"], output["label"])


class Baseline(CaseMetric):
    """A metric of a predictor without a network, fitted to training items when an evaluation starts.

    Inherit from it before the metric that it scores by. It writes its parts under its own name, beside the network's,
    and no rows. Without training items it is left out.

    Attributes:
        training: the training items.
    """

    training: Any

    @abstractmethod
    def fit(self) -> None:
        """Learn from the training items."""

    def attach(self, engine: Engine, name: str, *args: Any, **kwargs: Any) -> None:
        """Fit when the evaluator starts, then score its cases."""
        if not len(self.training):
            logger.info("%s is left out: there is no training case to fit it to.", name)
            return
        engine.add_event_handler(Events.STARTED, self.fit)
        super().attach(engine, name, *args, **kwargs)

    def completed(self, engine: Engine, name: str) -> None:
        """Write the metric and its parts into the engine's state."""
        Metric.completed(self, engine, name)
        engine.state.metrics |= {f"{name}/{part}": score for part, score in self.summary().items() if part != UNNAMED}


def foreground_box(predicted: NDArray[Any], reference: NDArray[Any]) -> tuple[slice, ...]:
    """Return the box around all that either label map (1, H, W, D) has, in (H, W, D); of no voxel if both are empty.

    What is computed in it takes time in proportion to the organs, which are a small part of the volume.

    Example:
        >>> label = np.zeros((1, 4, 4, 4), int)
        >>> label[0, 1, 2, 3] = 1
        >>> foreground_box(label, label)
        (slice(1, 2, None), slice(2, 3, None), slice(3, 4, None))
    """
    box = generate_spatial_bounding_box((predicted > 0) | (reference > 0))
    return tuple(slice(int(start), int(stop)) for start, stop in zip(*box, strict=True))


def mean_of_known(values: Any) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none.

    NaN stands for what a case lacks, such as a class. That of a network never comes here: metrics refuse it.
    """
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
