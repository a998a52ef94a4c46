"""The scores of the Liver Tumour Segmentation challenge (LiTS), as its own program computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import convert_to_numpy
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from med3d_components.metrics.cases import CaseMetric, mean_of_known
from med3d_components.metrics.lesions import Lesions, Match, find_lesions, match_lesions
from med3d_components.metrics.surface import case_spacing, check_one_grid

__all__ = ["LitsMetrics"]

NAN = float("nan")
PENALTY = 9001.0
"""What the challenge takes for a distance in mm, a volume difference or a tumour burden that cannot be computed."""
MISSING = {"dice": 0.0, "jaccard": 0.0, "voe": 1.0, "rvd": PENALTY, "assd": PENALTY, "rmsd": PENALTY, "msd": PENALTY}
"""Scores of what is missing in the prediction or the reference."""
SURFACE = ndimage.generate_binary_structure(3, 2)
"""A voxel is on the surface if it or one of its 18 neighbours by faces and edges is outside."""
OVERLAPS = {0.5: "", 0.0: "_greater_zero"}
"""Intersection over union above which a lesion is detected, to the end of the scores' names."""

Mask = NDArray[np.bool_]
Scores = dict[str, float]


class _Case(NamedTuple):
    """What is kept of a case; "liver" and "lesion" are the keys of mappings."""

    dice: dict[str, float]
    common: dict[str, int]
    voxels: dict[str, int]  # of prediction and reference together
    liver: Scores
    lesions: list[Scores]
    total: dict[str, int]  # of lesions, by "prediction" and "reference"
    detected: dict[float, int]
    burden: float


class LitsMetrics(CaseMetric):
    """The scores of the LiTS challenge, equal to those of its own program.

    That is PatrickChrist/lits-challenge-scoring at 090307d. Names are those of its ``scores.txt``:

    * "liver_dice_per_case", "lesion_dice_per_case": mean over cases. "..._dice_global": of all voxels pooled.
    * "liver_dice", "..._jaccard", "..._voe" (1 - Jaccard), "..._rvd" (``(|R| - |P|) / |P|``, R reference and P
      predicted voxels), "..._assd", "..._rmsd", "..._msd" (mean, root mean square and maximum, in mm, of the distances
      from each surface voxel of both to the other surface): the mean over cases. The same with "lesion_": the mean over
      all detected lesions.
    * "lesion_precision", "lesion_recall": of lesions detected with an intersection over union above 0.5;
      "..._greater_zero": with any overlap. See :func:`match_lesions`.
    * "RMSE_Tumorburden", "MAXERROR_Tumorburden": root mean square and maximum over cases of the share of lesion in the
      liver, reference minus prediction.

    Liver is every voxel of 1 or more, and there is none unless a value of 1 is predicted. A liver that is missing gets
    Dice 0 and a penalty of 9001 for distances, volume difference and burden, as do the lesions if none is detected in
    any case. Lesion Dice is 1 where neither has a lesion, 0 where one alone has.

    That program calls MedPy for "rvd", and this is what MedPy has given since 0.3.0; 0.2.2, which it pins, took the
    arguments the other way round and gave ``(|P| - |R|) / |R|``. Where the program stops with an error, this goes on: a
    reference without lesions has none that are detected, and pooled scores of no voxel are NaN.
    :class:`SurfaceMetrics` has other conventions.

    The metric itself is "liver_dice_per_case". It also writes ``<name>/<score>`` into ``engine.state.metrics``, and a
    row per case into ``engine.state.metric_details[<name>]``. Items and outputs are those of :class:`SurfaceMetrics`.
    Lesions are numbered in the order of the voxels in the label's file, which some of the challenge's scores depend on.

    Args:
        lesions: whether value 2 is a lesion; if not, only the liver is scored.

    Example:
        >>> label = torch.zeros(1, 20, 20, 9)
        >>> label[:, 5:15, 5:15, 3:6] = 1
        >>> metric = LitsMetrics(lesions=False)
        >>> metric.update("case 1", prediction=label.roll(2, 1), label=label, spacing=(0.7, 0.7, 5.0))
        >>> round(metric.compute(), 3), round(metric.summary()["liver_msd"], 3)
        (0.8, 1.4)
    """

    def __init__(self, lesions: bool = True) -> None:
        self.lesions = lesions
        super().__init__()

    def update(self, case: str, prediction: torch.Tensor, label: torch.Tensor, spacing: Sequence[float]) -> None:
        """Score one case.

        Args:
            case: its name.
            prediction: label map of shape (1, H, W, D): 0, 1 for liver, 2 for lesion.
            label: the true label map, of the same shape.
            spacing: in mm, one number per axis.

        Raises:
            ValueError: if the two differ in shape.
        """
        check_one_grid(case, prediction, label)
        predicted, reference = (np.asarray(convert_to_numpy(volume))[0] for volume in (prediction, label))
        self.details[case] = _score_case(predicted, reference, spacing)

    def add(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Score the case of an item at the spacing of its files, in the order of their voxels."""
        prediction, label = output["pred"], output["label"]
        spacing = case_spacing(item, label)
        if isinstance(label, MetaTensor) and "original_affine" in label.meta:
            original = convert_to_numpy(label.meta["original_affine"])
            turn = ornt_transform(io_orientation(convert_to_numpy(label.affine)), io_orientation(original))
            prediction, label = (
                torch.as_tensor(apply_orientation(convert_to_numpy(volume)[0], turn).copy())[None]
                for volume in (prediction, label)
            )
            spacing = tuple(voxel_sizes(original))
        self.update(item["case"], prediction, label, spacing)

    def summary(self) -> dict[str, float]:
        """Return all scores over all cases."""
        cases = [case for _, case in sorted(self.details.items())]
        scores = _mean("liver", [case.liver for case in cases]) | _dice("liver", cases)
        if self.lesions:
            detected = [lesion for case in cases for lesion in case.lesions] or [MISSING]
            scores |= _detection(cases) | _mean("lesion", detected) | _dice("lesion", cases) | _burdens(cases)
        return scores

    def score(self) -> float:
        """Return the mean over cases of the liver's Dice."""
        return self.summary()["liver_dice_per_case"]

    def parts(self, name: str) -> dict[str, float]:
        """Return ``<name>/<score>`` of all scores."""
        return {f"{name}/{part}": score for part, score in self.summary().items()}

    def row(self, case: str, detail: _Case) -> dict[str, Any]:
        """Return "case", "convention" and the case's scores."""
        row = {"case": case, "convention": "LiTS", "liver dice per case": detail.dice["liver"]}
        row |= {f"liver {name}": score for name, score in detail.liver.items()}
        if self.lesions:
            row |= {
                "lesion dice per case": detail.dice["lesion"],
                **{f"lesions in {of}": total for of, total in detail.total.items()},
                **{f"lesions detected{end}": detail.detected[overlap] for overlap, end in OVERLAPS.items()},
                "tumour burden difference": detail.burden,
            }
        return row


def _mean(organ: str, scores: Sequence[Scores]) -> Scores:
    """Return the mean of each score."""
    return {f"{organ}_{name}": mean_of_known([each[name] for each in scores]) for name in MISSING}


def _dice(organ: str, cases: Sequence[_Case]) -> Scores:
    """Return Dice per case, and that of the voxels of all cases."""
    common, voxels = sum(case.common[organ] for case in cases), sum(case.voxels[organ] for case in cases)
    per_case = mean_of_known([case.dice[organ] for case in cases])
    return {f"{organ}_dice_per_case": per_case, f"{organ}_dice_global": 2 * common / voxels if voxels else NAN}


def _detection(cases: Sequence[_Case]) -> Scores:
    """Return which share of the predicted lesions detects one, and which share of those in the reference is found."""
    scores = {}
    for part, of in (("precision", "prediction"), ("recall", "reference")):
        total = sum(case.total[of] for case in cases)
        for overlap, end in OVERLAPS.items():
            detected = sum(case.detected[overlap] for case in cases)
            scores[f"lesion_{part}{end}"] = detected / total if total else 0.0
    return scores


def _burdens(cases: Sequence[_Case]) -> Scores:
    """Return how far the shares of lesion in the liver are off."""
    differences = [case.burden for case in cases if not np.isnan(case.burden)] or [NAN]
    rmse = float(np.sqrt(np.mean(np.square(differences))))
    return {"RMSE_Tumorburden": rmse, "MAXERROR_Tumorburden": max(differences)}


def _score_case(predicted: NDArray[Any], reference: NDArray[Any], spacing: Sequence[float]) -> _Case:
    """Score label maps (H, W, D)."""
    inside = _box((predicted > 0) | (reference > 0))
    predicted, reference = predicted[inside], reference[inside]
    has_liver = bool((predicted == 1).any())
    masks = {"liver": ((predicted >= 1) & has_liver, reference >= 1), "lesion": (predicted == 2, reference == 2)}
    common = {organ: int((ours & theirs).sum()) for organ, (ours, theirs) in masks.items()}
    voxels = {organ: int(ours.sum()) + int(theirs.sum()) for organ, (ours, theirs) in masks.items()}
    empty = {"liver": 0.0, "lesion": 1.0}
    found, true = (find_lesions(mask) for mask in masks["lesion"])
    matches = {overlap: match_lesions(found, true, overlap) for overlap in OVERLAPS}
    detected = {overlap: match.detected for overlap, match in matches.items()}
    return _Case(
        dice={organ: 2 * common[organ] / voxels[organ] if voxels[organ] else empty[organ] for organ in masks},
        common=common,
        voxels=voxels,
        liver=_score_pair(*masks["liver"], spacing) if all(mask.any() for mask in masks["liver"]) else MISSING,
        lesions=_score_lesions(found, true, matches[0.5], spacing) if detected[0.5] > 0 else [],
        total={"prediction": found.total, "reference": true.total},
        detected=detected,
        burden=_burden(reference) - (_burden(predicted) if has_liver else PENALTY),
    )


def _score_lesions(predicted: Lesions, reference: Lesions, match: Match, spacing: Sequence[float]) -> list[Scores]:
    """Score each detected lesion."""
    found, true = match.predicted[predicted.numbers], match.reference[reference.numbers]
    scores = []
    for number in np.unique(match.predicted[1:]):
        if number:
            box = _box((found == number) | (true == number))
            scores.append(_score_pair(found[box] == number, true[box] == number, spacing))
    return scores


def _score_pair(predicted: Mask, reference: Mask, spacing: Sequence[float]) -> Scores:
    """Score masks (H, W, D) that are not empty."""
    ours, theirs = int(predicted.sum()), int(reference.sum())
    dice = 2 * int((predicted & reference).sum()) / (ours + theirs)
    jaccard = dice / (2 - dice)
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask, SURFACE)) * spacing for mask in (predicted, reference)]
    distances = np.concatenate([KDTree(points[0]).query(points[1])[0], KDTree(points[1]).query(points[0])[0]])
    return {
        "dice": dice,
        "jaccard": jaccard,
        "voe": 1 - jaccard,
        "rvd": (theirs - ours) / ours,
        "assd": float(distances.mean()),
        "rmsd": float(np.sqrt(np.mean(distances**2))),
        "msd": float(distances.max()),
    }


def _box(mask: Mask) -> tuple[slice, ...]:
    """Return where a mask lies; everywhere, for an empty one."""
    boxes: list[tuple[slice, ...]] = ndimage.find_objects(mask.astype(np.int8))
    return boxes[0] if boxes else (slice(None),) * mask.ndim


def _burden(label: NDArray[Any]) -> float:
    """Return the share of lesions in the liver; NaN without a liver."""
    liver = int((label >= 1).sum())
    return int((label == 2).sum()) / liver if liver else NAN
