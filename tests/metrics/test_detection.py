"""Lesions that are planted, so that it is known how many of them a prediction finds."""

from __future__ import annotations

import math
import time
from typing import Any

import ignite.distributed as idist
import numpy as np
import pytest
import SimpleITK
import torch
from ignite.engine import Engine, Events
from skimage.measure import label as label_components

from med3d_components.metrics import DomainDice, LesionDetection
from med3d_components.metrics.detection import match_one_to_one
from med3d_components.metrics.lesions import find_lesions

TUMOUR = ["background", "tumour"]
Box = tuple[tuple[int, int, int], tuple[int, int, int]]


def plant(*boxes: Box, size: tuple[int, int, int] = (24, 20, 16), value: int = 1) -> torch.Tensor:
    """Return a label map (1, H, W, D) with lesions, each of a corner and its sides."""
    label = torch.zeros(1, *size)
    for corner, sides in boxes:
        label[0][tuple(slice(start, start + length) for start, length in zip(corner, sides, strict=True))] = value
    return label


def score(*cases: tuple[torch.Tensor, torch.Tensor], **options: float) -> dict[str, float]:
    """Return the parts of pairs of prediction and reference."""
    metric = LesionDetection(TUMOUR, **options)
    for number, (prediction, label) in enumerate(cases):
        metric.update("-", str(number), prediction, label)
    return {name.removesuffix("/tumour"): value for name, value in metric.summary().items()}


A: Box = ((2, 2, 2), (4, 4, 4))
B: Box = ((12, 2, 2), (4, 4, 4))
C: Box = ((12, 12, 10), (2, 2, 2))
FAR: Box = ((20, 16, 1), (2, 2, 2))


def test_planted_lesions_are_counted_found_and_missed() -> None:
    moved: Box = ((3, 2, 2), (4, 4, 4))  # of 64 voxels 48 in common with A
    found = score((plant(moved, C, FAR), plant(A, B, C)))
    assert found == {
        "lesions": 3,
        "detected": 2,
        "sensitivity": pytest.approx(2 / 3),
        "sensitivity per case": pytest.approx(2 / 3),
        "false positives per scan": 1,
        "dice per detected lesion": pytest.approx((48 / 64 + 1) / 2),
        "dice per lesion": pytest.approx((48 / 64 + 1 + 0) / 3),
    }


def test_voxels_that_touch_at_a_corner_are_one_lesion() -> None:
    corner = plant(((2, 2, 2), (2, 2, 2)), ((4, 4, 4), (2, 2, 2)))
    gap = plant(((2, 2, 2), (2, 2, 2)), ((5, 4, 4), (2, 2, 2)))
    assert [score((label, label))["lesions"] for label in (corner, gap)] == [1, 2]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_components_are_those_of_simpleitk_and_scikit_image(share: float) -> None:
    mask = np.random.default_rng(0).random((20, 18, 16)) < share
    ours = find_lesions(mask, 3)
    components = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), True)
    theirs = SimpleITK.GetArrayFromImage(components)
    assert ours.total == theirs.max() == label_components(mask, connectivity=3).max()
    pairs = {tuple(pair) for pair in np.stack([ours.numbers, theirs], axis=-1).reshape(-1, 2).tolist()}
    assert len(pairs) == ours.total + 1  # which component has which number differs, and nothing else


def test_of_one_prediction_over_two_lesions_one_is_detected() -> None:
    both: Box = ((2, 2, 2), (14, 4, 4))  # 224 voxels, 64 of them in common with each of A and B
    found = score((plant(both), plant(A, B)))
    assert (found["lesions"], found["detected"], found["false positives per scan"]) == (2, 1, 0)
    assert found["dice per detected lesion"] == pytest.approx(2 * 64 / (64 + 224))


def test_of_two_predictions_in_one_lesion_one_is_a_false_positive() -> None:
    lesion: Box = ((2, 2, 2), (9, 4, 4))
    halves = plant(((2, 2, 2), (5, 4, 4)), ((8, 2, 2), (3, 4, 4)))
    found = score((halves, plant(lesion)))
    assert (found["detected"], found["false positives per scan"]) == (1, 1)
    assert found["dice per detected lesion"] == pytest.approx(2 * 5 / (9 + 5))  # the larger half


def test_the_greatest_total_overlap_decides_and_not_each_lesions_own() -> None:
    # Taken one after the other, P would go to A, which it overlaps most, and Q and B would be left alone.
    reference = np.zeros((1, 1, 40), int)
    reference[..., :10], reference[..., 11:21] = 1, 2
    predicted = np.zeros((1, 1, 40), int)
    predicted[..., 0:2], predicted[..., 3:18] = 1, 2
    ours, theirs = (find_lesions(volume > 0) for volume in (predicted, reference))
    # Overlaps: Q with A 2/10, P with A 7/18, P with B 7/18.
    assert match_one_to_one(ours, theirs, 0.1).keys() == {(1, 1), (2, 2)}


@pytest.mark.parametrize(("length", "detected"), [(10, 1), (11, 0)])
def test_an_overlap_of_exactly_a_tenth_is_enough_and_less_is_not(length: int, detected: int) -> None:
    prediction, label = plant(((2, 2, 2), (length, 1, 1))), plant(((2, 2, 2), (1, 1, 1)))
    assert score((prediction, label))["detected"] == detected


def test_the_overlap_is_an_option() -> None:
    prediction, label = plant(((4, 2, 2), (4, 4, 4))), plant(A)  # half of each: an intersection over union of 1/3
    detected = [score((prediction, label), lesion_overlap=share)["detected"] for share in (0.1, 0.33, 0.34, 0.5)]
    assert detected == [1, 1, 0, 0]
    for wrong in (0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"lesion_overlap is .*, but must be a number above 0 and at most 1\."):
            LesionDetection(TUMOUR, lesion_overlap=wrong)


def test_a_lesion_of_a_single_voxel_is_found_at_the_border() -> None:
    voxel = plant(((23, 19, 15), (1, 1, 1)))
    found = score((voxel, voxel))
    assert (found["detected"], found["dice per lesion"]) == (1, 1)


def test_empty_cases_are_what_the_docs_say() -> None:
    nothing = plant()
    neither, invented, missed = score((nothing, nothing)), score((plant(A, C), nothing)), score((nothing, plant(A, B)))
    for found, false_positives in ((neither, 0), (invented, 2)):
        assert math.isnan(found["sensitivity"])
        assert math.isnan(found["sensitivity per case"])
        assert math.isnan(found["dice per lesion"])
        assert (found["lesions"], found["false positives per scan"]) == (0, false_positives)
    assert (missed["sensitivity"], missed["sensitivity per case"], missed["false positives per scan"]) == (0, 0, 0)
    assert missed["dice per lesion"] == 0
    assert math.isnan(missed["dice per detected lesion"])
    found = score((nothing, nothing), (plant(A, C), nothing), (plant(A), plant(A, B, C)), (plant(C), plant(C)))
    assert found["sensitivity"] == pytest.approx(2 / 4)
    assert found["sensitivity per case"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["false positives per scan"] == pytest.approx(2 / 4)


def test_classes_are_scored_apart_each_in_its_own_box() -> None:
    metric = LesionDetection(["background", "liver", "tumour", "cyst"])
    label = plant(((0, 0, 0), (20, 18, 14))) + plant(A, B)
    prediction = plant(((0, 0, 0), (20, 18, 14))) + plant(A)
    metric.update("-", "1", prediction, label)
    found = metric.summary()
    assert (found["detected/liver"], found["detected/tumour"], found["lesions/tumour"]) == (1, 1, 2)
    assert math.isnan(found["sensitivity/cyst"])
    assert metric.compute() == pytest.approx((1 + 0.5) / 2)  # the cyst, which no case has, is left out


def test_a_perfect_prediction_finds_every_lesion_and_dice_alone_does_not_tell_a_small_one_that_is_missed() -> None:
    label, prediction = plant(((2, 2, 2), (16, 16, 12)), FAR), plant(((2, 2, 2), (16, 16, 12)))
    dice = DomainDice(TUMOUR)
    dice.update("-", "1", prediction, label)
    assert dice.compute() > 0.99
    assert score((prediction, label))["sensitivity"] == 0.5
    assert score((label, label))["sensitivity"] == 1


def test_the_engine_holds_parts_and_a_row_per_case_with_domains() -> None:
    metric = LesionDetection({"liver": TUMOUR, "lung": ["background", "nodule"]})
    outputs = {"a": (plant(A, FAR), plant(A, B)), "b": (plant(C), plant(C))}
    engine = Engine(lambda engine, case: [dict(zip(("pred", "label"), outputs[case], strict=True))])
    engine.state.metric_details = {}

    def set_batch(engine: Engine) -> None:
        case = engine.state.dataloader[engine.state.iteration - 1]
        engine.state.batch = [{"domain": {"a": "liver", "b": "lung"}[case], "case": case}]

    engine.add_event_handler(Events.ITERATION_COMPLETED, set_batch)
    metric.attach(engine, "lesion_detection")
    engine.run(["a", "b"])
    assert engine.state.metrics["lesion_detection"] == pytest.approx((0.5 + 1) / 2)
    assert engine.state.metrics["lesion_detection/false positives per scan/liver/tumour"] == 1
    first, second = engine.state.metric_details["lesion_detection"]
    assert first == {
        "domain": "liver",
        "case": "a",
        "tumour lesions": 2,
        "tumour lesions detected": 1,
        "tumour false positives": 1,
        "tumour dice per lesion": 0.5,
    }
    assert second["nodule lesions detected"] == 1


def test_lesions_of_all_processes_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = LesionDetection(TUMOUR), LesionDetection(TUMOUR)
    one.update("-", "1", plant(A), plant(A))
    for case in ("1", "2"):
        two.update("-", case, plant(A), plant(A if case == "1" else B))
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(idist, "all_gather", lambda details: [one.details.copy(), two.details.copy()])
    assert one.compute() == pytest.approx(1 / 2)
    assert len(one.details) == 2


def test_a_scan_of_full_size_with_fifty_lesions_takes_seconds() -> None:
    random = np.random.default_rng(0)
    label = torch.zeros(1, 512, 512, 300, dtype=torch.uint8)
    for corner in random.integers(0, (490, 490, 280), (50, 3)).tolist():
        label[0][tuple(slice(start, start + 12) for start in corner)] = 1
    prediction = label.roll(3, 1)
    start = time.process_time()
    found: Any = score((prediction, label))
    assert time.process_time() - start < 20  # 2 to 5 s on one busy core
    assert found["sensitivity"] > 0.95


def test_noise_of_thousands_of_components_is_matched_in_little_memory() -> None:
    random = np.random.default_rng(0)
    prediction = torch.as_tensor(random.random((1, 96, 96, 96)) < 0.02).float()
    found = score((prediction, plant(A, B, size=(96, 96, 96))))
    assert found["false positives per scan"] > 5000
    assert found["detected"] <= 2
