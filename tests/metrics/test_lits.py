"""The scores of LiTS are those that the challenge's own program gives for the same masks."""

from __future__ import annotations

import json
import math
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from med3d_components.metrics import LitsMetrics, SurfaceMetrics
from med3d_components.metrics.lesions import find_lesions, match_lesions
from tests.conftest import ROOT
from tests.metrics import lits_cases
from tests.metrics.lits_cases import CASES, SETS, SPACING

GOLDEN = json.loads((ROOT / "tests" / "golden" / "lits_challenge_scores.json").read_text(encoding="utf-8"))
JUDGED = [name for name, entry in GOLDEN["sets"].items() if "scores" in entry]


def labels(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return prediction and reference, (1, H, W, D) each."""
    prediction, reference = (torch.as_tensor(label)[None] for label in lits_cases.labels(case))
    return prediction, reference


def score(*cases: str, **options: Any) -> dict[str, float]:
    metric = LitsMetrics(**options)
    for case in cases:
        metric.update(case, *labels(case), spacing=CASES[case]["spacing"])
    return metric.summary()


def test_the_judge_was_asked_about_every_set_of_cases() -> None:
    assert set(GOLDEN["sets"]) == set(SETS)
    assert set(SETS) - set(JUDGED) == {"no lesion", "empty reference"}  # where its program divides by zero


@pytest.mark.parametrize("name", JUDGED)
def test_scores_are_those_of_the_challenges_program(name: str) -> None:
    assert score(*SETS[name]) == pytest.approx(GOLDEN["sets"][name]["scores"], rel=1e-6)


def test_the_golden_cases_tell_detections_apart() -> None:
    scores = [GOLDEN["sets"][name]["scores"] for name in JUDGED]
    for name in ("lesion_precision", "lesion_recall", "lesion_recall_greater_zero", "lesion_dice", "liver_rvd"):
        assert len({round(each[name], 6) for each in scores}) > 8, name
    assert min(each["lesion_recall"] for each in scores) < 0  # the program's counting, which is kept


@pytest.mark.parametrize("case", GOLDEN["medpy"])
def test_the_livers_scores_are_those_of_medpy(case: str) -> None:
    expected, found = GOLDEN["medpy"][case], score(case, lesions=False)
    if case == "all lesion":  # no liver, since the value 1 is nowhere
        assert (found["liver_dice"], found["liver_msd"]) == (0, 9001)
        return
    assert found["liver_dice"] == pytest.approx(expected["dc"])
    assert found["liver_rvd"] == pytest.approx(expected["ravd"])
    assert found["liver_msd"] == pytest.approx(expected["hd"], rel=1e-6)


def test_a_case_without_lesions_scores_one_and_detects_nothing() -> None:
    found = score("no lesion")
    assert found["lesion_dice_per_case"] == 1
    assert math.isnan(found["lesion_dice_global"])
    assert found["lesion_recall"] == found["lesion_precision"] == found["lesion_dice"] == 0
    assert found["lesion_assd"] == 9001
    assert found["RMSE_Tumorburden"] == 0


def test_an_empty_reference_scores_zero_and_has_no_burden() -> None:
    found = score("empty reference")
    assert (found["liver_dice_per_case"], found["liver_dice_global"], found["liver_msd"]) == (0, 0, 9001)
    assert math.isnan(found["RMSE_Tumorburden"])
    both = score("empty reference", "one lesion")
    assert both["RMSE_Tumorburden"] == pytest.approx(score("one lesion")["RMSE_Tumorburden"])


def test_a_case_of_two_empty_masks_is_scored_like_a_missing_liver() -> None:
    metric, empty = LitsMetrics(), torch.zeros(1, 9, 8, 7)
    metric.update("1", empty, empty, SPACING)
    assert metric.compute() == 0
    assert metric.summary()["lesion_dice_per_case"] == 1


def test_without_lesions_the_liver_alone_is_scored() -> None:
    whole, liver = score("missed lesion"), score("missed lesion", lesions=False)
    assert liver == {name: value for name, value in whole.items() if name.startswith("liver")}


def test_both_conventions_agree_on_dice_and_tell_their_differences() -> None:
    prediction, reference = (label.clamp(max=1) for label in labels("one lesion"))
    lits, monai = LitsMetrics(lesions=False), SurfaceMetrics(["background", "liver"])
    for metric in (lits, monai):
        metric.update("1", prediction, reference, SPACING)
    ours, theirs = lits.summary(), monai.summary()
    assert ours["liver_dice_per_case"] == pytest.approx(theirs["dice per case/liver"])
    difference = theirs["relative volume difference/liver"]  # (P - R) / R; LiTS has (R - P) / P
    assert ours["liver_rvd"] == pytest.approx(1 / (1 + difference) - 1)
    assert ours["liver_assd"] != pytest.approx(theirs["assd mm/liver"], rel=1e-3)  # 18 neighbours against 6


def test_matching_is_by_the_largest_overlap() -> None:
    truth = find_lesions(np.array([[[1, 1, 1, 0, 1, 1, 1, 1]]]) > 0)
    guess = find_lesions(np.array([[[0, 0, 1, 1, 1, 1, 1, 0]]]) > 0)
    match = match_lesions(guess, truth, 0.4)
    assert (match.predicted.tolist(), match.reference.tolist(), match.detected) == ([0, 1], [0, 1, 1], 1)


AFFINES = {
    "RAS": np.diag([*SPACING, 1]),
    "LPS": np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1]),
    "axes exchanged": np.diag([*SPACING, 1])[[1, 2, 0, 3]],
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("case", ["random 1", "random 7", "touching lesions"])
def test_lesions_are_numbered_as_in_the_labels_file_however_the_volumes_were_turned(
    case: str, affine: np.ndarray
) -> None:
    turned = []
    for label in labels(case):
        image = nib.as_closest_canonical(nib.Nifti1Image(label[0].numpy(), affine))
        volume = MetaTensor(np.asarray(image.dataobj)[None].copy(), affine=torch.as_tensor(image.affine))
        volume.meta["original_affine"] = affine
        turned.append(volume)
    engine = Engine(lambda engine, batch: [{"pred": turned[0].as_tensor(), "label": turned[1]}])
    engine.state.metric_details = {}
    LitsMetrics().attach(engine, "lits")
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: setattr(engine.state, "batch", [{"case": case}]))
    engine.run([0])
    found = {name.removeprefix("lits/"): value for name, value in engine.state.metrics.items() if "/" in name}
    assert found == pytest.approx(GOLDEN["sets"][case]["scores"], rel=1e-6)
    (row,) = engine.state.metric_details["lits"]
    assert (row["case"], row["convention"]) == (case, "LiTS")
    assert row["liver assd"] == pytest.approx(found["liver_assd"])


def test_label_maps_on_two_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="The prediction of 1 has shape"):
        LitsMetrics().update("1", torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 4, 5), SPACING)


def test_a_prediction_of_nan_is_not_taken_for_background() -> None:
    label = torch.ones(1, 4, 4, 4)
    with pytest.raises(ValueError, match="The prediction of case 7 is NaN or infinite"):
        LitsMetrics().update("case 7", label * float("nan"), label, (1.0, 1.0, 1.0))
