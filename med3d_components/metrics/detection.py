"""Which lesions are found: detection lesion by lesion, which Dice does not tell where lesions are small or many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.utils import convert_to_numpy
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from med3d_components.metrics.cases import UNNAMED, LabelMapMetric, foreground_box, mean_of_known
from med3d_components.metrics.lesions import Lesions, count_common, find_lesions
from med3d_components.metrics.surface import check_one_grid

__all__ = ["LesionDetection", "match_one_to_one"]

NAN = float("nan")
CORNERS = 3
"""Voxels that touch at a corner are of one lesion: 26 neighbours."""


class _Found(NamedTuple):
    """What is known of the lesions of a class in a case."""

    lesions: int
    predicted: int
    dice: list[float]  # of each that was detected


class LesionDetection(LabelMapMetric):
    """Sensitivity, false positives per scan and Dice of the lesions of each class.

    A lesion is a component of a class whose voxels touch by faces, edges or corners (26 neighbours). Lesions of the
    prediction and of the reference are matched one to one, see :func:`match_one_to_one`: a reference lesion with a
    partner is detected, a predicted one without is a false positive. Of one prediction over two lesions, and of two
    predictions in one lesion, one counts alone.

    Per class, over all cases:

    * "lesions": those of the reference; "detected": of these.
    * "sensitivity": detected / lesions, all cases pooled; "sensitivity per case": its mean over cases with a lesion.
    * "false positives per scan": the mean over all cases.
    * "dice per detected lesion": the mean over detected lesions, each with its partner; "dice per lesion": the mean
      over all lesions of the reference, with 0 for those that were missed.

    Empty cases: a case with neither a lesion nor a prediction has no sensitivity (NaN, which means leave out) and no
    false positive; one without a lesion but with predictions has no sensitivity, and each of them is a false positive;
    one with lesions but without a prediction has a sensitivity of 0.

    The metric itself is the mean over classes of "sensitivity". It also writes ``<name>/<part>/<class>``, or
    ``<name>/<part>/<domain>/<class>`` where domains have names, into ``engine.state.metrics``, and a row per case into
    ``engine.state.metric_details[<name>]``. :class:`LitsMetrics` counts by the rules of the LiTS challenge.

    The items of ``engine.state.batch`` hold "case" and may hold "domain"; those of ``engine.state.output`` hold "pred"
    and "label", label maps (1, H, W, D).

    Args:
        classes: class names, background first, or domain name to class names.
        lesion_overlap: least intersection over union of a match, above 0 and at most 1.

    Raises:
        ValueError: for another overlap; when a case is scored, if its two label maps differ in size.

    Example:
        >>> metric = LesionDetection(["background", "tumour"])
        >>> label = torch.zeros(1, 8, 8, 8)
        >>> label[:, 1:3, 1:3, 1:3], label[:, 5:7, 5:7, 5:7] = 1, 1
        >>> prediction = label.clone()
        >>> prediction[:, 4:], prediction[:, 0, 7, 7] = 0, 1
        >>> metric.update("-", "case 1", prediction, label)
        >>> metric.compute(), metric.summary()["false positives per scan/tumour"]
        (0.5, 1.0)
    """

    def __init__(self, classes: Mapping[str, Sequence[str]] | Sequence[str], lesion_overlap: float = 0.1) -> None:
        self.lesion_overlap = float(lesion_overlap)
        if not 0 < self.lesion_overlap <= 1:
            raise ValueError(f"lesion_overlap is {lesion_overlap}, but must be a number above 0 and at most 1.")
        super().__init__(classes)

    def update(self, domain: str, case: str, prediction: torch.Tensor, label: torch.Tensor) -> None:
        """Score one case, see :class:`LabelMapMetric`."""
        check_one_grid(case, prediction, label)
        predicted, reference = (convert_to_numpy(volume) for volume in (prediction, label))
        inside = (0, *foreground_box(predicted, reference))
        count = len(self.classes[domain]) - 1
        kind = np.min_scalar_type(count)
        predicted, reference = (volume[inside].astype(kind) for volume in (predicted, reference))
        places = [ndimage.find_objects(volume, count) for volume in (predicted, reference)]
        self.details[domain, case] = [
            self._find(predicted, reference, value, [boxes[value - 1] for boxes in places])
            for value in range(1, count + 1)
        ]

    def summary(self) -> dict[str, float]:
        """Return ``<part>/<class>`` or ``<part>/<domain>/<class>`` of all parts; NaN where there is no lesion."""
        result: dict[str, float] = {}
        for domain, names in self.classes.items():
            cases = [detail for (of, _), detail in sorted(self.details.items()) if of == domain]
            for index, name in enumerate(names[1:]):
                scores = _summarize([case[index] for case in cases])
                ending = name if domain == UNNAMED else f"{domain}/{name}"
                result |= {f"{part}/{ending}": score for part, score in scores.items()}
        return result

    def score(self) -> float:
        """Return the mean of "sensitivity" over the classes that have lesions."""
        return mean_of_known([score for part, score in self.summary().items() if part.startswith("sensitivity/")])

    def parts(self, name: str) -> dict[str, float]:
        """Return ``<name>/<part>/...`` of all parts."""
        return {f"{name}/{part}": score for part, score in self.summary().items()}

    def row(self, case: tuple[str, str], detail: Sequence[_Found]) -> dict[str, Any]:
        """Return "domain", if it has a name, "case", and ``<class> lesions`` and so on."""
        domain, name = case
        row: dict[str, Any] = {} if domain == UNNAMED else {"domain": domain}
        row["case"] = name
        for label, found in zip(self.classes[domain][1:], detail, strict=True):
            row |= {
                f"{label} lesions": found.lesions,
                f"{label} lesions detected": len(found.dice),
                f"{label} false positives": found.predicted - len(found.dice),
                f"{label} dice per lesion": sum(found.dice) / found.lesions if found.lesions else NAN,
            }
        return row

    def _find(
        self,
        predicted: NDArray[np.unsignedinteger[Any]],
        reference: NDArray[np.unsignedinteger[Any]],
        value: int,
        boxes: Sequence[tuple[slice, ...] | None],
    ) -> _Found:
        """Match the lesions of a class in label maps (H, W, D), each with the box around it; None where it is not."""
        known = [box for box in boxes if box is not None]
        if not known:
            return _Found(0, 0, [])
        inside = tuple(
            slice(min(side.start for side in sides), max(side.stop for side in sides))
            for sides in zip(*known, strict=True)
        )
        ours, theirs = (find_lesions(volume[inside] == value, CORNERS) for volume in (predicted, reference))
        dice = match_one_to_one(ours, theirs, self.lesion_overlap)
        return _Found(theirs.total, ours.total, list(dice.values()))


def match_one_to_one(predicted: Lesions, reference: Lesions, least_overlap: float) -> dict[tuple[int, int], float]:
    """Match each predicted lesion with one of the reference at most, and the other way round.

    Of all ways to do so, the one whose intersections over union have the greatest sum; pairs below ``least_overlap``
    cannot be matched, and add nothing.

    Args:
        predicted: lesions of the prediction.
        reference: lesions of the reference, of the same shape.
        least_overlap: intersection over union from which on two lesions may be matched, above 0.

    Returns:
        Numbers of the two lesions to their Dice.

    Example:
        >>> truth, guess = (find_lesions(np.array([[x]]) > 0) for x in ([1, 1, 0, 0, 1], [0, 1, 1, 0, 0]))
        >>> [match_one_to_one(guess, truth, share) for share in (0.1, 0.5)]
        [{(1, 1): 0.5}, {}]
    """
    common = count_common(predicted, reference)
    (ours, theirs), shared = common.coords, common.data
    overlap = shared / (predicted.sizes[ours] + reference.sizes[theirs] - shared)
    candidates = overlap >= least_overlap
    # A noisy prediction has thousands of lesions, few of which come into question.
    rows, row = np.unique(ours[candidates], return_inverse=True)
    columns, column = np.unique(theirs[candidates], return_inverse=True)
    gain = np.zeros((len(rows), len(columns)))
    gain[row, column] = overlap[candidates]
    pairs = [pair for pair in zip(*linear_sum_assignment(gain, maximize=True), strict=True) if gain[pair] > 0]
    return {(int(rows[i]), int(columns[j])): float(2 * gain[i, j] / (1 + gain[i, j])) for i, j in pairs}


def _summarize(cases: Sequence[_Found]) -> dict[str, float]:
    """Return the parts of a class over all cases."""
    lesions, detected = sum(case.lesions for case in cases), sum(len(case.dice) for case in cases)
    dice = [score for case in cases for score in case.dice]
    per_case = [len(case.dice) / case.lesions if case.lesions else NAN for case in cases]
    return {
        "lesions": lesions,
        "detected": detected,
        "sensitivity": detected / lesions if lesions else NAN,
        "sensitivity per case": mean_of_known(per_case),
        "false positives per scan": mean_of_known([case.predicted - len(case.dice) for case in cases]),
        "dice per detected lesion": mean_of_known(dice),
        "dice per lesion": sum(dice) / lesions if lesions else NAN,
    }
