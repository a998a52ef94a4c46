"""Dice per domain and class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.metrics import DiceHelper

from med3d_components.metrics.cases import UNNAMED, LabelMapMetric, mean_of_known
from med3d_components.utils import check_finite

__all__ = ["DomainDice"]

ENOUGH = 5
"""Cases that give a domain its full weight."""


class DomainDice(LabelMapMetric):
    """Mean Dice of one dataset, or of many domains, each with its own classes.

    Dice is computed per case and foreground class on label maps. A class that a case does not have is left out,
    not scored. A class scores its mean over cases, a domain its mean over classes, and the metric is the mean over
    domains. In it a domain weighs ``min(1, cases / 5)`` by its cases with a score: with equal weights, the one case of
    a small domain would decide as much as a hundred of another which network is best. The weight is ours; the paper of
    Med3D is silent. Classes of a domain weigh alike, as is usual.

    Besides its own value the metric writes ``<domain>``, ``<domain>/<class>`` and ``<domain>/cases``, the number of its
    cases with a score, or ``<class>`` alone if there is one dataset without a name, into ``engine.state.metrics``, and
    one row per case into ``engine.state.metric_details[<name of the metric>]``.

    Args:
        classes: class names, background first, or domain name to class names.

    Example:
        >>> metric = DomainDice({"liver": ["background", "liver"]})
        >>> label = torch.ones(1, 4, 4, 4)
        >>> metric.update("liver", "case 1", prediction=label, label=label)
        >>> metric.compute()
        1.0
    """

    def update(self, domain: str, case: str, prediction: torch.Tensor, label: torch.Tensor) -> None:
        """Score one case, see :class:`LabelMapMetric`.

        Raises:
            ValueError: if the prediction holds NaN or infinity, which would count as background.
        """
        dice = DiceHelper(False, num_classes=len(self.classes[domain]), reduction="none", get_not_nans=False)
        prediction = torch.as_tensor(prediction)
        check_finite(f"The prediction of {case}", prediction)
        # A label that an evaluation reads again lies on the CPU.
        scores = dice(prediction[None], torch.as_tensor(label, device=prediction.device)[None])
        self.details[domain, case] = scores.flatten().tolist()

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

    def cases(self) -> dict[str, int]:
        """Return the number of cases per domain that have a class to score."""
        scored = [domain for (domain, _), row in self.details.items() if not np.isnan(row).all()]
        return {domain: scored.count(domain) for domain in self.classes}

    def score(self) -> float:
        """Return the weighted mean over domains; NaN where no case has a score."""
        summary = self.summary()
        weights = {domain: min(1.0, count / ENOUGH) for domain, count in self.cases().items() if count}
        known = [summary[domain] for domain in weights]
        return float(np.average(known, weights=list(weights.values()))) if known else float("nan")

    def parts(self, name: str) -> dict[str, float]:
        """Return the scores of domains and classes, and the domains' numbers of cases, under their own names."""
        cases = {f"{domain}/cases": count for domain, count in self.cases().items() if domain != UNNAMED}
        return {part: score for part, score in self.summary().items() if part != UNNAMED} | cases

    def row(self, case: tuple[str, str], detail: list[float]) -> dict[str, Any]:
        """Return "domain", if it has a name, "case", and the scores by class."""
        domain, name = case
        named = {} if domain == UNNAMED else {"domain": domain}
        return {**named, "case": name, **dict(zip(self.classes[domain][1:], detail, strict=True))}
