from __future__ import annotations

import ignite.distributed as idist
import pytest
import torch
from ignite.engine import Engine, Events

from med3d_components.metrics import Restoration

ORIGINAL = torch.full((1, 6, 6, 6), 0.5)


def output(restored: float, distorted: float) -> dict[str, torch.Tensor]:
    """A cube off by these amounts everywhere."""
    return {"pred": ORIGINAL + restored, "image": ORIGINAL + distorted, "label": ORIGINAL}


def test_the_original_scores_1_the_input_0_and_what_is_further_away_less() -> None:
    for restored, expected in ((0.0, 1.0), (0.2, 0.0), (0.1, 0.75), (0.4, -3.0)):
        metric = Restoration()
        metric.update("1", output(restored, 0.2))
        assert metric.compute() == pytest.approx(expected, abs=1e-6)


def test_errors_are_over_all_voxels_of_all_cubes() -> None:
    metric = Restoration()
    metric.update("1", output(0.1, 0.2))
    metric.update("1", output(0.3, 0.2))
    metric.update("2", output(0.1, 0.4))
    summary = metric.summary()
    assert summary["val_mse"] == pytest.approx((0.01 + 0.09 + 0.01) / 3)
    assert summary["val_mse/unchanged"] == pytest.approx((0.04 + 0.04 + 0.16) / 3)
    assert metric.compute() == pytest.approx(1 - 0.11 / 0.24)


def test_baselines_are_a_median_filter_and_the_mean_training_cube() -> None:
    metric = Restoration(training=[{"label": ORIGINAL + 0.2}, [{"label": ORIGINAL}, {"label": ORIGINAL - 0.5}]])
    metric.fit()
    distorted = ORIGINAL.clone()
    distorted[0, 3, 3, 3] = 1  # a speck, which a median filter removes
    metric.update("1", {"pred": ORIGINAL, "image": distorted, "label": ORIGINAL})
    summary = metric.summary()
    assert summary["val_mse/unchanged"] == pytest.approx(0.25 / 216)
    assert summary["val_mse/median filter"] == 0
    assert summary["val_mse/mean image"] == pytest.approx(0.01)


def test_an_engine_gets_the_score_the_errors_and_a_row_per_case() -> None:
    engine = Engine(lambda engine, batch: [output(0.1, 0.2), output(0.1, 0.2)])
    engine.state.metric_details = {}
    Restoration(training=[{"label": ORIGINAL}]).attach(engine, "val_restored")
    batch = [{"case": "b"}, {"case": "a"}]
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: setattr(engine.state, "batch", batch))
    engine.run([0])
    assert engine.state.metrics["val_restored"] == pytest.approx(0.75)
    assert engine.state.metrics["val_mse/mean image"] == 0
    rows = engine.state.metric_details["val_restored"]
    assert [row["case"] for row in rows] == ["a", "b"]
    assert rows[0]["val_mse/unchanged"] == pytest.approx(0.04)


def test_cases_of_all_processes_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Restoration(), Restoration()
    one.update("1", output(0.1, 0.2))
    two.update("1", output(0.1, 0.2))
    two.update("2", output(0.3, 0.2))
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(idist, "all_gather", lambda details: [one.details.copy(), two.details.copy()])
    assert one.compute() == pytest.approx(1 - 0.10 / 0.08, rel=1e-4)


@pytest.mark.parametrize(
    ("restored", "distorted", "name"), [(float("nan"), 0.2, ""), (0.1, float("inf"), ", unchanged")]
)
def test_an_image_of_nan_is_an_error_and_not_a_case_without_a_score(
    restored: float, distorted: float, name: str
) -> None:
    with pytest.raises(ValueError, match=f"The mean squared error{name} of 1 is NaN or infinite"):
        Restoration().update("1", output(restored, distorted))
