from __future__ import annotations

import math
from typing import Any

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

from med3d_components.metrics import DomainDice, SurfaceMetrics

LIVER = ["background", "liver"]
SPACING = (0.7, 0.8, 2.5)


def box(start: tuple[int, int, int], stop: tuple[int, int, int], size: tuple[int, int, int] = (24, 24, 16)) -> Any:
    label = torch.zeros(1, *size)
    label[0][tuple(slice(*ends) for ends in zip(start, stop, strict=True))] = 1
    return label


def plane(axis: int, index: int) -> torch.Tensor:
    label = torch.zeros(1, 20, 20, 20)
    label.select(1 + axis, index).fill_(1)
    return label


def ball(radius: float, centre: float, scale: tuple[float, float, float]) -> torch.Tensor:
    axes = [(np.arange(round(2 * centre / length)) + 0.5) * length - centre for length in scale]
    distance = np.linalg.norm(np.stack(np.meshgrid(*axes, indexing="ij")), axis=0)
    return torch.as_tensor(distance <= radius)[None].float()


def scores(prediction: torch.Tensor, label: torch.Tensor, spacing: Any = SPACING, **options: float) -> dict[str, float]:
    metric = SurfaceMetrics(LIVER, **options)
    metric.update("1", prediction, label, spacing)
    return {name.removesuffix("/liver"): score for name, score in metric.summary().items()}


@pytest.mark.parametrize(("axis", "voxels"), [(0, 3), (1, -4), (2, 2)])
def test_parallel_planes_are_as_far_apart_as_they_were_moved(axis: int, voxels: int) -> None:
    distance = abs(voxels) * SPACING[axis]
    result = scores(plane(axis, 8 + voxels), plane(axis, 8))
    assert result["assd mm"] == pytest.approx(distance)
    assert result["hd95 mm"] == pytest.approx(distance)
    assert scores(plane(axis, 8 + voxels), plane(axis, 8), tolerance_mm=distance - 0.01)[
        f"surface dice {distance - 0.01:g} mm"
    ] == pytest.approx(0)
    # A shift of exactly the tolerance is within it, whatever the rounding of the header.
    assert scores(plane(axis, 8 + voxels), plane(axis, 8), np.float32(SPACING) * 1.00001, tolerance_mm=distance)[
        f"surface dice {distance:g} mm"
    ] == pytest.approx(1)


@pytest.mark.parametrize("growth", [2.0, 5.5])
def test_concentric_balls_are_apart_by_the_difference_of_their_radii(growth: float) -> None:
    # Between stepped surfaces the nearest voxel is a little nearer than the true surface: a third of a voxel at most.
    radius, spacing = 14.0, (0.5, 0.5, 0.6)
    result = scores(ball(radius + growth, 20, spacing), ball(radius, 20, spacing), spacing)
    assert result["assd mm"] == pytest.approx(growth, abs=0.5 / 3)
    assert result["hd95 mm"] == pytest.approx(growth, abs=0.5 / 3)
    assert result["relative volume difference"] == pytest.approx((1 + growth / radius) ** 3 - 1, rel=0.02)


@pytest.mark.parametrize("spacing", [(0.8, 1.0, 1.25), (0.7, 0.7, 1.5)])
def test_distances_far_above_the_voxels_size_are_right_to_one_percent(spacing: tuple[float, float, float]) -> None:
    result = scores(ball(50, 52, spacing), ball(10, 52, spacing), spacing)
    assert result["assd mm"] == pytest.approx(40, rel=0.01)
    assert result["hd95 mm"] == pytest.approx(40, rel=0.01)


# MONAI warns of an argument that its own function passes.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_scores_are_those_of_monai() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 1, 12, 10, 8, generator=generator) > 0.8
    pair = [(noise[0] | (box((2, 2, 2), (9, 8, 6), (12, 10, 8)) > 0)).float(), noise[1].float()]
    result = scores(*pair, tolerance_mm=1.5)
    batch = {"y_pred": pair[0][None], "y": pair[1][None], "include_background": True, "spacing": SPACING}
    assert result["assd mm"] == pytest.approx(compute_average_surface_distance(**batch, symmetric=True).item())
    assert result["hd95 mm"] == pytest.approx(compute_hausdorff_distance(**batch, percentile=95).item())
    assert result["surface dice 1.5 mm"] == pytest.approx(compute_surface_dice(**batch, class_thresholds=[1.5]).item())


def test_a_perfect_prediction_at_the_volumes_border_scores_best() -> None:
    label = box((0, 0, 0), (5, 24, 16))
    result = scores(label, label)
    assert result["dice per case"] == result["dice global"] == result["surface dice 2 mm"] == 1
    assert result["assd mm"] == result["hd95 mm"] == result["relative volume difference"] == result["missed"] == 0


def test_volume_differences_are_signed() -> None:
    half, whole = box((4, 4, 4), (8, 8, 8)), box((4, 4, 4), (12, 8, 8))
    assert scores(half, whole)["relative volume difference"] == pytest.approx(-0.5)
    assert scores(whole, half)["relative volume difference"] == pytest.approx(1)


def test_dice_per_case_weighs_cases_and_global_dice_weighs_voxels() -> None:
    metric = SurfaceMetrics(LIVER)
    metric.update("small", box((0, 0, 0), (2, 2, 2)), box((0, 0, 0), (4, 2, 2)), SPACING)
    metric.update("large", box((0, 0, 0), (20, 20, 10)), box((0, 0, 0), (20, 20, 10)), SPACING)
    small = 2 * 8 / (8 + 16)
    assert metric.compute() == metric.summary()["dice per case/liver"] == pytest.approx((small + 1) / 2)
    pooled = 2 * (8 + 4000) / (8 + 16 + 8000)
    assert metric.summary()["dice global/liver"] == pytest.approx(pooled)


def test_a_missed_organ_scores_zero_and_counts_but_has_no_distance() -> None:
    metric, label = SurfaceMetrics(LIVER), box((4, 4, 4), (12, 12, 12))
    metric.update("found", label.roll(2, 1), label, SPACING)
    found = metric.summary()
    metric.update("missed", torch.zeros_like(label), label, SPACING)
    summary = metric.summary()
    assert (found["missed/liver"], summary["missed/liver"]) == (0, 1)
    for part in ("dice per case/liver", "surface dice 2 mm/liver"):
        assert summary[part] == pytest.approx(found[part] / 2)
    assert summary["dice global/liver"] < found["dice global/liver"]
    assert summary["assd mm/liver"] == found["assd mm/liver"] > 0
    assert summary["hd95 mm/liver"] == found["hd95 mm/liver"]
    assert summary["relative volume difference/liver"] == pytest.approx(-0.5)


def test_an_invented_organ_scores_zero_without_a_volume_to_compare() -> None:
    label = box((4, 4, 4), (12, 12, 12))
    result = scores(label, torch.zeros_like(label))
    assert result["dice per case"] == result["dice global"] == result["surface dice 2 mm"] == 0
    assert result["missed"] == 1
    assert all(math.isnan(result[name]) for name in ("assd mm", "hd95 mm", "relative volume difference"))


def test_a_class_that_neither_has_is_left_out() -> None:
    metric, label = SurfaceMetrics([*LIVER, "tumour"]), box((4, 4, 4), (12, 12, 12))
    metric.update("healthy", label, label, SPACING)
    healthy = metric.summary()
    assert metric.compute() == 1
    assert healthy.pop("missed/tumour") == 0
    assert all(math.isnan(score) for name, score in healthy.items() if name.endswith("/tumour"))
    metric.update("ill", label * 2, label * 2, SPACING)
    assert metric.summary()["dice per case/tumour"] == 1
    empty = torch.zeros(1, 4, 4, 4)
    metric.update("empty", empty, empty, SPACING)
    assert metric.compute() == 1


def test_no_case_gives_no_score() -> None:
    metric = SurfaceMetrics(LIVER)
    assert math.isnan(metric.compute())
    assert metric.summary()["missed/liver"] == 0


def evaluate(output: dict[str, Any], item: dict[str, Any]) -> Engine:
    engine = Engine(lambda engine, batch: [output])
    engine.state.metric_details = {}
    SurfaceMetrics(LIVER).attach(engine, "val_surface")

    def set_batch(engine: Engine) -> None:
        engine.state.batch = [item]

    engine.add_event_handler(Events.ITERATION_STARTED, set_batch)
    engine.run([0])
    return engine


ANGLE = np.deg2rad(30)
TURNED = np.array(
    [[np.cos(ANGLE), -np.sin(ANGLE), 0, 5], [np.sin(ANGLE), np.cos(ANGLE), 0, -9], [0, 0, 1, 3], [0, 0, 0, 1]]
)
AFFINES = {
    "plain": np.diag([*SPACING, 1]),
    "flipped": np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1]),
    "turned": TURNED @ np.diag([*SPACING, 1]),
    "swapped": np.diag([*SPACING, 1])[[1, 2, 0, 3]],
}


@pytest.mark.parametrize("holder", ["label", "image"])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_spacing_is_read_from_any_affine_of_label_or_image(affine: np.ndarray, holder: str) -> None:
    label = plane(2, 8)
    known = MetaTensor(label, affine=torch.as_tensor(affine))
    output = {"pred": plane(2, 10), "label": known if holder == "label" else label}
    engine = evaluate(output, {"case": "1", "image": known})
    assert engine.state.metrics["val_surface/assd mm/liver"] == pytest.approx(2 * SPACING[2])


def test_engine_state_holds_the_parts_and_one_row_per_case() -> None:
    label = MetaTensor(box((4, 4, 4), (12, 12, 12)), affine=torch.diag(torch.tensor([*SPACING, 1.0])))
    engine = evaluate({"pred": label.clone().roll(2, 3), "label": label}, {"case": "liver_7"})
    assert set(engine.state.metrics) == {
        "val_surface",
        "val_surface/dice per case/liver",
        "val_surface/dice global/liver",
        "val_surface/assd mm/liver",
        "val_surface/hd95 mm/liver",
        "val_surface/surface dice 2 mm/liver",
        "val_surface/relative volume difference/liver",
        "val_surface/missed/liver",
    }
    assert engine.state.metrics["val_surface"] == pytest.approx(0.75)
    (row,) = engine.state.metric_details["val_surface"]
    assert row["case"] == "liver_7"
    assert row["liver dice"] == pytest.approx(0.75)
    assert row["liver hd95 mm"] == pytest.approx(5)
    assert row["convention"] == "MONAI"
    assert set(row) == {
        "case",
        "convention",
        "liver dice",
        "liver assd mm",
        "liver hd95 mm",
        "liver surface dice 2 mm",
        "liver relative volume difference",
    }


@pytest.mark.parametrize("image", [None, torch.zeros(1, 20, 20, 20), MetaTensor(torch.zeros(1, 10, 20, 20))])
def test_an_unknown_spacing_is_refused(image: Any) -> None:
    item = {"case": "liver_7"} | ({} if image is None else {"image": image})
    with pytest.raises(ValueError, match=r"spacing of liver_7 is unknown.*LoadImaged"):
        evaluate({"pred": plane(0, 1), "label": plane(0, 2)}, item)


def test_label_maps_on_two_grids_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"prediction of 1 has shape \(1, 20, 20, 20\), but its label \(1, 24, 24, 16\)"
    ):
        scores(plane(0, 1), box((1, 1, 1), (2, 2, 2)))


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
def test_a_tolerance_is_zero_or_positive(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance_mm is"):
        SurfaceMetrics(LIVER, tolerance_mm=tolerance)


def test_cases_of_all_processes_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, label = SurfaceMetrics(LIVER), SurfaceMetrics(LIVER), box((4, 4, 4), (12, 12, 12))
    one.update("1", label, label, SPACING)
    two.update("1", label, label, SPACING)
    two.update("2", torch.zeros_like(label), label, SPACING)
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(idist, "all_gather", lambda details: [one.details.copy(), two.details.copy()])
    assert one.compute() == pytest.approx(0.5)
    assert one.summary()["missed/liver"] == 1
    assert one.summary()["dice global/liver"] == pytest.approx(2 / 3)


def test_dice_is_that_of_the_dice_metric_where_the_reference_is_not_empty() -> None:
    prediction, label = box((4, 4, 4), (12, 9, 12)), box((6, 4, 2), (14, 12, 12))
    dice = DomainDice(LIVER)
    dice.update("-", "1", prediction, label)
    assert scores(prediction, label)["dice per case"] == pytest.approx(dice.compute())


def test_a_prediction_of_nan_is_not_taken_for_background() -> None:
    label = torch.ones(1, 4, 4, 4)
    with pytest.raises(ValueError, match="The prediction of case 7 is NaN or infinite"):
        SurfaceMetrics(["background", "liver"]).update("case 7", label * float("nan"), label, (1.0, 1.0, 1.0))
