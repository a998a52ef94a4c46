"""Whether a network is right as often as it says: the expected calibration error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.utils import convert_to_numpy
from numpy.typing import ArrayLike, NDArray

from med3d_components.metrics.cases import UNNAMED, CaseMetric, foreground_box, mean_of_known
from med3d_components.metrics.surface import check_one_grid
from med3d_components.utils import check_finite

__all__ = ["BINS", "BINS_TABLE", "Calibration", "expected_calibration_error", "fill_bins"]

BINS = 15
"""Of equal width from 0 to 1, as Guo et al. have them; a confidence between two is of the lower one."""
BINS_TABLE = "calibration"
"""Where an engine's ``metric_details`` hold a row per bin."""
EDGES = np.linspace(0, 1, BINS + 1)


def fill_bins(confidence: ArrayLike, correct: ArrayLike) -> NDArray[np.float64]:
    """Return (3, 15): the number of predictions in each bin, the sum of their confidences, and how many are right.

    Args:
        confidence: probability of the predicted class, of any shape.
        correct: whether the prediction is right, of the same shape.

    Example:
        >>> fill_bins([0.6, 0.62, 0.95], [True, False, True]).sum(axis=1).round(2).tolist()
        [3.0, 2.17, 2.0]
    """
    values = np.asarray(confidence, dtype=float).ravel()
    places = np.searchsorted(EDGES[1:-1], values)
    weights = (None, values, np.asarray(correct).ravel())
    return np.stack([np.bincount(places, weight, minlength=BINS).astype(float) for weight in weights])


def expected_calibration_error(bins: NDArray[np.float64]) -> float:
    """Return the mean over predictions of the distance between the confidence and the accuracy of their bin.

    That is Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3.

    Args:
        bins: of :func:`fill_bins`, or a sum of several.

    Returns:
        From 0, for a network that is right as often as it says, to 1; NaN without a prediction.

    Example:
        >>> round(expected_calibration_error(fill_bins([0.9, 0.9, 0.9, 0.9], [True, True, True, False])), 3)
        0.15
    """
    count, confidence, right = bins
    return float(np.abs(confidence - right).sum() / count.sum()) if count.sum() else float("nan")


class Calibration(CaseMetric):
    """Expected calibration error (ECE) of a segmentation, from the confidence of each voxel.

    The voxels are those in the box around all that the prediction or the reference has of any class. Those far from it
    are background beyond doubt, and most of a scan: with them any network seems to know what it does not know. A case
    without foreground in either has no voxel, and is left out.

    The metric itself is the ECE of the voxels of all cases, in 15 bins of equal width of the probability of the
    predicted class. It also writes ``<name>/per case``, the mean over cases of each one's ECE, ``<name>/confidence``
    and ``<name>/accuracy``, means over voxels: a confidence above the accuracy is overconfidence. A row per case, its
    ECE as "ece", goes into ``engine.state.metric_details[<name>]``, and one per bin into
    ``engine.state.metric_details["calibration"]``.

    The items of ``engine.state.batch`` hold "case" and may hold "domain"; those of ``engine.state.output`` hold "pred"
    and "label", label maps (1, H, W, D), and "confidence" of :class:`~med3d_components.transforms.Confidenced`, of the
    same shape.

    Example:
        >>> metric = Calibration()
        >>> label = torch.ones(1, 4, 4, 4)
        >>> metric.update("-", "case 1", prediction=label, label=label, confidence=label * 0.9)
        >>> round(metric.compute(), 3)
        0.1
    """

    def update(
        self, domain: str, case: str, prediction: torch.Tensor, label: torch.Tensor, confidence: torch.Tensor
    ) -> None:
        """Score one case.

        Args:
            domain: its domain.
            case: its name.
            prediction: label map of shape (1, H, W, D).
            label: the true label map, of the same shape.
            confidence: probability of the predicted label, of the same shape.

        Raises:
            ValueError: if shapes differ, or if the prediction or the confidence holds NaN or infinity.
        """
        check_one_grid(case, prediction, label)
        check_finite(f"The confidence of {case}", torch.as_tensor(confidence))
        predicted, reference, sure = (convert_to_numpy(volume) for volume in (prediction, label, confidence))
        inside = (0, *foreground_box(predicted, reference))
        bins = np.zeros((3, BINS))
        # Slice by slice, since bins are counted with 16 bytes a voxel.
        for ours, theirs, certainty in zip(predicted[inside], reference[inside], sure[inside], strict=True):
            bins += fill_bins(certainty, ours == theirs)
        self.details[domain, case] = bins

    def add(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Score the case of an item by "pred", "label" and "confidence" of its output."""
        volumes = (output[key] for key in ("pred", "label", "confidence"))
        self.update(item.get("domain", UNNAMED), item["case"], *volumes)

    def score(self) -> float:
        """Return the error over all voxels of all cases."""
        return expected_calibration_error(self._pooled())

    def summary(self) -> dict[str, float]:
        """Return the mean error "per case", and the mean "confidence" and "accuracy" over all voxels."""
        count, confidence, right = self._pooled().sum(axis=1)
        return {
            "per case": mean_of_known([expected_calibration_error(bins) for bins in self.details.values()]),
            "confidence": float(confidence / count) if count else float("nan"),
            "accuracy": float(right / count) if count else float("nan"),
        }

    def parts(self, name: str) -> dict[str, float]:
        """Return ``<name>/<part>`` of all parts."""
        return {f"{name}/{part}": score for part, score in self.summary().items()}

    def row(self, case: tuple[str, str], detail: NDArray[np.float64]) -> dict[str, Any]:
        """Return "domain", if it has a name, "case" and "ece"."""
        domain, name = case
        named = {} if domain == UNNAMED else {"domain": domain}
        return {**named, "case": name, "ece": expected_calibration_error(detail)}

    def completed(self, engine: Engine, name: str) -> None:
        """Write the metric, its parts, its rows and its bins into the engine's state."""
        super().completed(engine, name)
        engine.state.metric_details[BINS_TABLE] = [
            {
                "confidence from": round(float(low), 4),
                "to": round(float(high), 4),
                "voxels": int(count),
                "mean confidence": float(confidence / count) if count else float("nan"),
                "accuracy": float(right / count) if count else float("nan"),
            }
            for low, high, (count, confidence, right) in zip(EDGES[:-1], EDGES[1:], self._pooled().T, strict=True)
        ]

    def _pooled(self) -> NDArray[np.float64]:
        pooled = np.zeros((3, BINS))
        for _, bins in sorted(self.details.items()):
            pooled += bins
        return pooled
