"""Scores of a two-class classifier with their uncertainty, and of a classifier that knows the size alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from med3d_components.data.nodules import nodule_volume
from med3d_components.metrics.calibration import expected_calibration_error, fill_bins
from med3d_components.metrics.cases import Baseline, CaseMetric, mean_of_known
from med3d_components.utils import check_finite

__all__ = ["BinaryClassification", "SizeBaseline", "auc_interval", "roc_auc"]


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the area under the ROC curve; NaN unless there are cases of both classes.

    Args:
        scores: (N,), higher for the positive class.
        labels: (N,), 0 or 1.

    Raises:
        ValueError: if a score is NaN.

    Example:
        >>> roc_auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        0.75
    """
    positive, negative = _by_class(scores, labels)
    return float(_rank_auc(positive, negative)) if positive.size and negative.size else float("nan")


def auc_interval(scores: ArrayLike, labels: ArrayLike, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the AUC from a bootstrap within each class.

    A bootstrap cannot see beyond its cases: where they are ranked without an error, the interval is (1, 1), however
    few they are.

    Args:
        scores: (N,), higher for the positive class.
        labels: (N,), 0 or 1.
        draws: number of resamples.
        seed: of the resamples.

    Returns:
        Lower and upper bound; NaN unless there are cases of both classes.

    Raises:
        ValueError: if a score is NaN.

    Example:
        >>> auc_interval([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
        (1.0, 1.0)
    """
    positive, negative = _by_class(scores, labels)
    if not (positive.size and negative.size):
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    resampled = (generator.choice(group, (draws, group.size)) for group in (positive, negative))
    low, high = np.percentile(_rank_auc(*resampled), (2.5, 97.5))
    return float(low), float(high)


class BinaryClassification(CaseMetric):
    """ROC AUC of a two-class classifier.

    Besides its own value the metric writes into ``engine.state.metrics``: "accuracy", "sensitivity" and "specificity"
    at a probability of 0.5, "ece", the expected calibration error (the confidence is the probability of the class that
    a case is taken for; of a few cases it is large by chance, too), ``<name>/low`` and ``<name>/high``, the 95 %
    interval of the AUC, and ``confusion/<class> as <class>``, the number of cases of a class that are taken for a
    class. One row per case goes
    into ``engine.state.metric_details[<name>]``: "case", "patient", "malignancy", "label" (the class's name) and
    "probability" (of the second class). What lacks a class to be computed is NaN.

    The items of ``engine.state.batch`` hold "case", "patient" and "malignancy"; those of ``engine.state.output`` hold
    "pred", the two classes' probabilities (after the softmax), and "label", 0 or 1.

    Args:
        classes: names of the two classes, the positive one last.

    Example:
        >>> metric = BinaryClassification(["benign", "malignant"])
        >>> for case, probability in enumerate([0.2, 0.6, 0.9]):
        ...     metric.update({"case": str(case), "patient": "1", "malignancy": 4}, case // 2, probability)
        >>> metric.compute(), metric.summary()["specificity"]
        (1.0, 0.5)
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        super().__init__()

    def update(self, item: Mapping[str, Any], label: int, probability: float) -> None:
        """Note one case.

        Args:
            item: holds its "case", "patient" and "malignancy".
            label: its class, 0 or 1.
            probability: of class 1, from 0 to 1.

        Raises:
            ValueError: if the probability is NaN or infinite; NaN would count as benign.
        """
        check_finite(f"The probability of {self.classes[1]} of {item['case']}", probability)
        self.details[item["case"]] = {
            "case": item["case"],
            "patient": item["patient"],
            "malignancy": float(item["malignancy"]),
            "label": self.classes[int(label)],
            "probability": float(probability),
        }

    def add(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Note the case of an item by "label" and "pred" of its output."""
        self.update(item, output["label"], output["pred"][1])

    def scores_and_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities and the labels of all cases, (N,) each, in the order of their names."""
        rows = [row for _, row in sorted(self.details.items())]
        labels = [row["label"] == self.classes[1] for row in rows]
        return np.array([row["probability"] for row in rows]), np.array(labels, dtype=int)

    def confusion(self) -> dict[str, int]:
        """Return the number of cases of each class that are taken for each class."""
        scores, labels = self.scores_and_labels()
        return {
            f"{true} as {taken}": int(((labels == i) & ((scores >= 0.5) == j)).sum())
            for i, true in enumerate(self.classes)
            for j, taken in enumerate(self.classes)
        }

    def summary(self) -> dict[str, float]:
        """Return accuracy, sensitivity, specificity, "ece", and the "low" and "high" end of the AUC's interval."""
        scores, labels = self.scores_and_labels()
        right = (scores >= 0.5) == labels
        low, high = auc_interval(scores, labels)
        return {
            "accuracy": mean_of_known(right),
            "sensitivity": mean_of_known(right[labels == 1]),
            "specificity": mean_of_known(right[labels == 0]),
            "ece": expected_calibration_error(fill_bins(np.maximum(scores, 1 - scores), right)),
            "low": low,
            "high": high,
        }

    def score(self) -> float:
        """Return the area under the ROC curve."""
        return roc_auc(*self.scores_and_labels())

    def parts(self, name: str) -> dict[str, float]:
        """Return the interval under the metric's name, all else under its own."""
        scores = {f"{name}/{part}" if part in ("low", "high") else part: x for part, x in self.summary().items()}
        return scores | {f"confusion/{part}": count for part, count in self.confusion().items()}

    def row(self, case: str, detail: dict[str, Any]) -> dict[str, Any]:
        """Return what is known of a case."""
        return detail


class SizeBaseline(Baseline, BinaryClassification):
    """The same scores for a classifier that knows a nodule's size alone: what a network must beat.

    Larger nodules are more often malignant, so size alone classifies well. This is a logistic regression of the
    logarithm of the mask's volume, both classes weighted alike, fitted to the training nodules. It writes ``<name>``
    and ``<name>/accuracy``, ``<name>/sensitivity``, ... beside the network's scores.

    Args:
        classes: names of the two classes, the positive one last.
        training: items with "label", "case" and "mask", and "spacing" if the mask's file has none.
        validation: items with "case" and "mask", of all cases that will be scored.

    Raises:
        ValueError: when it is fitted, if a nodule has no mask or an empty one.
    """

    def __init__(
        self, classes: Sequence[str], training: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]]
    ) -> None:
        super().__init__(classes)
        self.training = training
        self.validation = validation
        self.probabilities: dict[str, float] = {}

    def fit(self) -> None:
        """Fit the regression to the training nodules and keep its probabilities for those of the validation."""
        sizes = np.array([_log_volume(item) for item in self.training])
        bias, slope = _logistic_regression(sizes, np.array([item["label"] for item in self.training]))
        self.probabilities = {item["case"]: float(expit(bias + slope * _log_volume(item))) for item in self.validation}

    def add(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Note what size alone tells of the case of an item."""
        self.update(item, output["label"], self.probabilities[item["case"]])


def _by_class(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, positive = np.asarray(scores, dtype=float), np.asarray(labels) == 1
    if wrong := int(np.isnan(scores).sum()):
        raise ValueError(f"{wrong} of {scores.size} scores are NaN, which have no rank; leave these cases out.")
    return scores[positive], scores[~positive]


def _rank_auc(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Return the AUC by the rank statistic of Mann and Whitney, along the last axis; ties count half."""
    count = positive.shape[-1]
    ranks = rankdata(np.concatenate([positive, negative], axis=-1), axis=-1)[..., :count]
    return (ranks.sum(axis=-1) - count * (count + 1) / 2) / (count * negative.shape[-1])


def _logistic_regression(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return bias and slope; both classes weigh alike, and a slight penalty keeps the slope finite."""
    centre, spread = values.mean(), values.std() or 1.0
    sign = np.where(labels == 1, 1.0, -1.0)
    weight = np.where(labels == 1, 1 / max(1, (labels == 1).sum()), 1 / max(1, (labels == 0).sum()))

    def loss(parameters: np.ndarray) -> float:
        logits = parameters[0] + parameters[1] * (values - centre) / spread
        return float((weight * np.logaddexp(0, -sign * logits)).sum() + 1e-3 * (parameters**2).sum())

    bias, slope = minimize(loss, np.zeros(2)).x
    return float(bias - slope * centre / spread), float(slope / spread)


def _log_volume(item: Mapping[str, Any]) -> float:
    if "mask" not in item:
        raise ValueError(f"{item['case']} has no mask, so its size is unknown; add masks or leave this baseline out.")
    volume = nodule_volume(item)
    if volume <= 0:
        raise ValueError(f"{item['mask']}, the mask of {item['case']}, is empty; draw the nodule or drop the entry.")
    return float(np.log(volume))
