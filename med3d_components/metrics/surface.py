"""Metrics in millimetres: the surfaces and volumes of segmented organs, by the definitions of MONAI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics.utils import get_mask_edges, get_surface_distance
from monai.utils import convert_to_numpy

from med3d_components.metrics.cases import CaseMetric, foreground_box, mean_of_known
from med3d_components.transforms.spacing import spacing_of
from med3d_components.utils import check_finite

__all__ = ["SurfaceMetrics", "case_spacing", "check_one_grid"]

NAN = float("nan")

ROUNDING_MM = 1e-4
"""Headers hold single precision: a shift of exactly the tolerance must not fail by its last digit."""


class SurfaceMetrics(CaseMetric):
    """Dice, surface distances in mm, surface Dice and volume difference, per case and foreground class.

    * "dice per case": mean over cases of ``2 |P and R| / (|P| + |R|)``, P predicted and R reference voxels;
      "dice global": the same of all voxels of all cases pooled.
    * "assd mm": average symmetric surface distance, the mean over the surface voxels of both of the distance to the
      other's surface. "hd95 mm": the 95th percentile of these distances, the larger of the two directions.
    * "surface dice <tolerance> mm": the share of the surface voxels of both that lie within the tolerance.
    * "relative volume difference": ``(|P| - |R|) / |R|``, negative for too small a prediction.

    These are MONAI's definitions, which the rows call "convention": a mask's surface is its outermost layer of voxels,
    each of which counts alike. Those of the LiTS challenge differ, see :class:`LitsMetrics`.

    Empty masks: where neither has the class, the case is left out of the class. Where one alone has it, Dice and
    surface Dice are 0 and there is no distance: mean distances are over the other cases, and "missed" is the number
    of cases without. The relative volume difference is -1 for an empty prediction and left out for an empty
    reference. (:class:`DomainDice` leaves cases with an empty reference out.)

    The metric itself is "dice per case", averaged over classes. It also writes ``<name>/<part>/<class>`` into
    ``engine.state.metrics``, and one row per case, "case", "convention" and ``<class> <measure>``, into
    ``engine.state.metric_details[<name>]``; what is undefined is NaN.

    The items of ``engine.state.batch`` hold "case"; those of ``engine.state.output`` hold "pred" and "label", label
    maps (1, H, W, D). The spacing is that of the label's affine, or of the batch item's "image" if that has the
    label's size. Metrics belong at the spacing of the files: invert resampling before.

    Args:
        classes: class names, background first.
        tolerance_mm: of the surface Dice.

    Raises:
        ValueError: for a tolerance that is no positive number or zero; when a case is scored, if its spacing is
            unknown or its two label maps differ in size.

    Example:
        >>> metric = SurfaceMetrics(["background", "liver"])
        >>> label = torch.zeros(1, 20, 20, 9)
        >>> label[:, 5:15, 5:15, 3:6] = 1
        >>> metric.update("case 1", prediction=label.roll(2, 1), label=label, spacing=(0.7, 0.7, 5.0))
        >>> round(metric.compute(), 3), round(metric.summary()["hd95 mm/liver"], 3)
        (0.8, 1.4)
    """

    def __init__(self, classes: Sequence[str], tolerance_mm: float = 2.0) -> None:
        self.classes = list(classes)
        self.tolerance_mm = float(tolerance_mm)
        if not (np.isfinite(self.tolerance_mm) and self.tolerance_mm >= 0):
            raise ValueError(f"tolerance_mm is {tolerance_mm}, but must be zero or a positive number of mm.")
        surface_dice = f"surface dice {self.tolerance_mm:g} mm"
        self.measures = ["dice", "assd mm", "hd95 mm", surface_dice, "relative volume difference"]
        super().__init__()

    def update(self, case: str, prediction: torch.Tensor, label: torch.Tensor, spacing: Sequence[float]) -> None:
        """Score one case.

        Args:
            case: its name.
            prediction: label map of shape (1, H, W, D).
            label: the true label map, of the same shape.
            spacing: in mm, one number per axis.
        """
        check_one_grid(case, prediction, label)
        predicted, reference = (convert_to_numpy(volume) for volume in (prediction, label))
        inside = (0, *foreground_box(predicted, reference))
        predicted, reference = predicted[inside], reference[inside]
        self.details[case] = [
            self._score(predicted == value, reference == value, spacing) for value in range(1, len(self.classes))
        ]

    def add(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Score the case of an item at the spacing of its files."""
        self.update(item["case"], output["pred"], output["label"], case_spacing(item, output["label"]))

    def summary(self) -> dict[str, float]:
        """Return ``<part>/<class>`` of all parts; NaN where no case has the class."""
        result: dict[str, float] = {}
        for index, name in enumerate(self.classes[1:]):
            scores = [case[index] for _, case in sorted(self.details.items())]
            both = sum(score["predicted"] + score["reference"] for score in scores)
            parts = {measure: mean_of_known([score[measure] for score in scores]) for measure in self.measures}
            result |= {
                f"dice per case/{name}": parts.pop("dice"),
                f"dice global/{name}": 2 * sum(score["common"] for score in scores) / both if both else NAN,
                **{f"{measure}/{name}": mean for measure, mean in parts.items()},
                f"missed/{name}": sum((score["predicted"] == 0) != (score["reference"] == 0) for score in scores),
            }
        return result

    def score(self) -> float:
        """Return the mean over classes of "dice per case"."""
        summary = self.summary()
        return mean_of_known([summary[f"dice per case/{name}"] for name in self.classes[1:]])

    def parts(self, name: str) -> dict[str, float]:
        """Return ``<name>/<part>/<class>`` of all parts."""
        return {f"{name}/{part}": score for part, score in self.summary().items()}

    def row(self, case: str, detail: list[dict[str, float]]) -> dict[str, Any]:
        """Return "case", "convention" and ``<class> <measure>`` of all measures."""
        by_class = zip(self.classes[1:], detail, strict=True)
        scores = {f"{label} {measure}": score[measure] for label, score in by_class for measure in self.measures}
        return {"case": case, "convention": "MONAI", **scores}

    def _score(self, predicted: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
        """Return the measures of two masks (H, W, D), and the voxels of each and of both."""
        common, ours, theirs = (int(mask.sum()) for mask in (predicted & reference, predicted, reference))
        dice = 2 * common / (ours + theirs) if ours or theirs else NAN
        difference = (ours - theirs) / theirs if theirs else NAN
        if ours and theirs:
            surface = _surface_scores(predicted, reference, spacing, self.tolerance_mm)
        else:
            surface = NAN, NAN, 0.0 if ours or theirs else NAN
        scores = dict(zip(self.measures, (dice, *surface, difference), strict=True))
        return scores | {"common": common, "predicted": ours, "reference": theirs}


def _surface_scores(
    predicted: np.ndarray, reference: np.ndarray, spacing: Sequence[float], tolerance_mm: float
) -> tuple[float, float, float]:
    """Return ASSD, HD95 and surface Dice of two masks (H, W, D) that are not empty.

    The same as ``compute_average_surface_distance(symmetric=True)``, ``compute_hausdorff_distance(percentile=95)`` and
    ``compute_surface_dice`` of MONAI, each of which would search all distances anew.
    """
    edges = get_mask_edges(predicted, reference)
    scale = [float(length) for length in spacing]  # MONAI refuses integers
    there, back = (get_surface_distance(*pair, spacing=scale) for pair in (edges, edges[::-1]))
    both = np.concatenate([there, back])
    hd95 = max(float(np.percentile(distances, 95)) for distances in (there, back))
    return float(both.mean()), hd95, float((both <= tolerance_mm + ROUNDING_MM).mean())


def check_one_grid(case: str, prediction: torch.Tensor, label: torch.Tensor) -> None:
    """Refuse label maps that differ in shape, and a prediction of NaN, which would count as background.

    Raises:
        ValueError: naming the case.
    """
    check_finite(f"The prediction of {case}", torch.as_tensor(prediction))
    if prediction.shape != label.shape:
        raise ValueError(
            f"The prediction of {case} has shape {tuple(prediction.shape)}, but its label {tuple(label.shape)}; "
            "bring both to one grid before the metric."
        )


def case_spacing(item: Mapping[str, Any], label: torch.Tensor) -> tuple[float, ...]:
    """Return the spacing of a case in mm, that of its label or of an image of the label's size.

    Raises:
        ValueError: if neither has an affine.
    """
    for volume in (label, item.get("image")):
        if isinstance(volume, MetaTensor) and volume.shape[1:] == label.shape[1:]:
            return spacing_of(volume)
    raise ValueError(
        f"The spacing of {item['case']} is unknown: neither its label nor an image of the label's size has an affine; "
        "load the label with LoadImaged and keep it a monai.data.MetaTensor."
    )
