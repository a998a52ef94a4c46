"""Dice per domain and class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.metrics import DiceHelper

__all__ = ["UNNAMED", "DomainDice", "mean_of_known"]

UNNAMED = "-"
"""The domain of items that name none."""


class DomainDice(Metric):
    """Mean Dice of one dataset, or of many domains, each with its own classes.

    Dice is computed per case and foreground class on label maps. A class that a case does not have is left out,
    not scored. A class scores its mean over cases, a domain its mean over classes, and the metric is the mean over
    domains. Besides its own value the metric writes ``<domain>`` and ``<domain>/<class>``, or ``<class>`` alone if
    there is one dataset without a name, into ``engine.state.metrics``, and one row per case into
    ``engine.state.metric_details[<name of the metric>]``.

    With several processes the cases of all are gathered, and one that two processes had counts once, so the result
    is that of a single process.

    Args:
        classes: class names, background first, or domain name to class names.

    Example:
        >>> metric = DomainDice({"liver": ["background", "liver"]})
        >>> label = torch.ones(1, 4, 4, 4)
        >>> metric.update("liver", "case 1", prediction=label, label=label)
        >>> metric.compute()
        1.0
    """

    def __init__(self, classes: Mapping[str, Sequence[str]] | Sequence[str]) -> None:
        self.classes = classes if isinstance(classes, Mapping) else {UNNAMED: classes}
        self.details: dict[tuple[str, str], list[float]] = {}
        super().__init__()

    def reset(self) -> None:
        """Forget all cases."""
        self.details = {}

    def update(self, domain: str, case: str, prediction: torch.Tensor, label: torch.Tensor) -> None:
        """Score one case.

        Args:
            domain: its domain.
            case: its name.
            prediction: label map of shape (1, H, W, D).
            label: the true label map, of the same shape.
        """
        dice = DiceHelper(False, num_classes=len(self.classes[domain]), reduction="none", get_not_nans=False)
        prediction = torch.as_tensor(prediction)
        # A label that an evaluation reads again lies on the CPU.
        scores = dice(prediction[None], torch.as_tensor(label, device=prediction.device)[None])
        self.details[domain, case] = scores.flatten().tolist()

    def iteration_completed(self, engine: Engine) -> None:
        """Score the cases of the evaluator's last batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.update(item.get("domain", UNNAMED), item["case"], output["pred"], output["label"])

    def summary(self) -> dict[str, float]:
        """Return the score per domain and per ``<domain>/<class>``; NaN where no case has the class."""
        domains: dict[str, float] = {}
        classes: dict[str, float] = {}
        for domain, names in self.classes.items():
            scores = np.array([row for (name, _), row in self.details.items() if name == domain])
            means = [mean_of_known(column) for column in scores.reshape(-1, len(names) - 1).T]
            domains[domain] = mean_of_known(means)
            classes |= {f"{domain}/{name}": mean for name, mean in zip(names[1:], means, strict=True)}
        return {name.removeprefix(f"{UNNAMED}/"): score for name, score in (domains | classes).items()}

    def compute(self) -> float:
        """Return the mean over domains."""
        if idist.get_world_size() > 1:
            for details in idist.all_gather(self.details):
                self.details |= details
        summary = self.summary()
        return mean_of_known([summary[domain] for domain in self.classes])

    def completed(self, engine: Engine, name: str) -> None:
        """Write the metric, its parts and its rows into the engine's state."""
        super().completed(engine, name)
        engine.state.metrics |= {part: score for part, score in self.summary().items() if part != UNNAMED}
        engine.state.metric_details[name] = [
            ({} if domain == UNNAMED else {"domain": domain})
            | {"case": case, **dict(zip(self.classes[domain][1:], row, strict=True))}
            for (domain, case), row in sorted(self.details.items())
        ]


def mean_of_known(values: Any) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
