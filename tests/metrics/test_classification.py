from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.metrics import compute_roc_auc

from med3d_components.metrics import BinaryClassification, SizeBaseline, auc_interval, roc_auc

CLASSES = ["benign", "malignant"]


def simulate(count: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return generator.normal(size=count) + shift * labels, labels


def fill(metric: BinaryClassification, labels: Sequence[int], probabilities: Sequence[float]) -> BinaryClassification:
    for i, (label, probability) in enumerate(zip(labels, probabilities, strict=True)):
        metric.update({"case": f"c{i}", "patient": f"p{i}", "malignancy": 3}, label, probability)
    return metric


def run(metric: BinaryClassification, name: str, labels: Sequence[int], probabilities: Sequence[float]) -> Any:
    """Score cases with an engine that has batches of two, as MONAI's evaluator leaves them."""
    cases = [
        {
            "case": f"c{i}",
            "patient": f"p{i}",
            "malignancy": torch.tensor(3.5, dtype=torch.float64),
            "pred": torch.tensor([1 - probability, probability]),
            "label": torch.tensor(label),
        }
        for i, (label, probability) in enumerate(zip(labels, probabilities, strict=True))
    ]
    engine = Engine(lambda engine, batch: batch)
    engine.state.metric_details = {}
    metric.attach(engine, name)
    engine.run([cases[start : start + 2] for start in range(0, len(cases), 2)])
    return engine.state


@pytest.mark.parametrize("seed", range(3))
def test_the_auc_is_that_of_monai_with_ties_as_well(seed: int) -> None:
    scores, labels = simulate(61, 0.8, seed)
    for values in (scores, scores.round()):
        assert roc_auc(values, labels) == pytest.approx(compute_roc_auc(torch.tensor(values), torch.tensor(labels)))
    assert roc_auc([0.5] * 4, [0, 1, 0, 1]) == 0.5


def test_the_interval_covers_the_true_auc_in_about_95_of_100_trials() -> None:
    true = 0.7602  # of two normal distributions one standard deviation apart: Phi(1 / sqrt(2))
    intervals = [auc_interval(*simulate(100, 1.0, seed), draws=300) for seed in range(200)]
    covered = np.mean([low <= true <= high for low, high in intervals])
    assert 0.89 <= covered <= 0.99
    # Hanley and McNeil's standard error for 50 and 50 cases is 0.048.
    assert np.mean([high - low for low, high in intervals]) == pytest.approx(2 * 1.96 * 0.048, rel=0.1)


def test_the_interval_is_repeatable_and_narrows_with_more_cases() -> None:
    few, many = simulate(30, 1.0, 0), simulate(600, 1.0, 0)
    assert auc_interval(*few) == auc_interval(*few)
    assert auc_interval(*few) != auc_interval(*few, seed=1)
    (low, high), (lower, higher) = auc_interval(*many), auc_interval(*few)
    assert high - low < (higher - lower) / 2


def test_engine_state_holds_scores_counts_and_rows() -> None:
    labels, probabilities = [0, 0, 0, 1, 1], [0.1, 0.4, 0.6, 0.5, 0.9]
    state = run(BinaryClassification(CLASSES), "val_auc", labels, probabilities)
    assert state.metrics == {
        "val_auc": pytest.approx(5 / 6),
        "accuracy": pytest.approx(4 / 5),
        "sensitivity": 1.0,
        "specificity": pytest.approx(2 / 3),
        # Each of 0.6 in a bin of its own: it is the border of two, and 1 - 0.4 lies just below.
        "ece": pytest.approx((abs(0.9 + 0.9 - 2) + abs(0.6 - 1) + abs(0.6 - 0) + abs(0.5 - 1)) / 5),
        "val_auc/low": pytest.approx(auc_interval(probabilities, labels)[0]),
        "val_auc/high": 1.0,
        "confusion/benign as benign": 2,
        "confusion/benign as malignant": 1,
        "confusion/malignant as benign": 0,
        "confusion/malignant as malignant": 2,
    }
    assert len(state.metric_details["val_auc"]) == 5
    assert state.metric_details["val_auc"][3] == {
        "case": "c3",
        "patient": "p3",
        "malignancy": 3.5,
        "label": "malignant",
        "probability": 0.5,
    }


def test_what_needs_both_classes_is_not_a_number_without() -> None:
    for label in (0, 1):
        metric = fill(BinaryClassification(CLASSES), [label] * 3, [0.2, 0.3, 0.8])
        assert math.isnan(metric.compute())
        summary = metric.summary()
        assert [name for name, score in summary.items() if math.isnan(score)] == [
            ("specificity" if label else "sensitivity"),
            "low",
            "high",
        ]
    assert math.isnan(BinaryClassification(CLASSES).summary()["accuracy"])


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_probability_that_is_no_number_is_not_taken_for_benign(wrong: float) -> None:
    with pytest.raises(ValueError, match="The probability of malignant of c1 is NaN or infinite"):
        fill(BinaryClassification(CLASSES), [0, 0], [0.2, wrong])


def test_scores_of_nan_have_no_auc() -> None:
    for score in (roc_auc, auc_interval):
        with pytest.raises(ValueError, match="1 of 3 scores are NaN"):
            score([0.1, math.nan, 0.7], [0, 1, 1])


def test_a_new_run_forgets_the_last() -> None:
    metric = fill(BinaryClassification(CLASSES), [0] * 9, [0.9] * 9)
    assert run(metric, "val_auc", [0, 1], [0.1, 0.9]).metrics["accuracy"] == 1


def test_cases_of_all_processes_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = fill(BinaryClassification(CLASSES), [0, 1], [0.2, 0.6]), BinaryClassification(CLASSES)
    fill(two, [0, 1, 0, 0], [0.2, 0.6, 0.7, 0.8])
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(idist, "all_gather", lambda details: [one.details.copy(), two.details.copy()])
    assert one.compute() == pytest.approx(1 / 3)
    assert len(one.details) == 4


def write_masks(folder: Path, sizes: Sequence[int], labels: Sequence[int]) -> list[dict[str, Any]]:
    items = []
    for i, (size, label) in enumerate(zip(sizes, labels, strict=True)):
        mask = np.zeros((12, 12, 12), np.uint8)
        mask[:size, :size, :size] = 1
        nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / f"{i}.nii")
        items.append({"case": f"c{i}", "label": label, "mask": str(folder / f"{i}.nii")})
    return items


def test_size_alone_tells_large_nodules_from_small_ones(tmp_path: Path) -> None:
    sizes, labels = [2, 3, 4, 3, 6, 5, 8, 9, 10, 4], [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    items = write_masks(tmp_path, sizes, labels)
    baseline = SizeBaseline(CLASSES, items, items)
    state = run(baseline, "size_alone", labels, [0.0] * 10)
    assert list(np.argsort(list(baseline.probabilities.values()), kind="stable")) == list(
        np.argsort(sizes, kind="stable")
    )
    assert state.metrics["size_alone"] == pytest.approx(roc_auc(sizes, labels))
    assert state.metrics.keys() == {"size_alone"} | {
        f"size_alone/{part}" for part in ("accuracy", "sensitivity", "specificity", "ece", "low", "high")
    }
    assert 0.5 <= state.metrics["size_alone/accuracy"] < 1
    assert not state.metric_details


def test_a_rare_class_weighs_as_much_as_a_frequent_one(tmp_path: Path) -> None:
    items = write_masks(tmp_path, [3] * 9 + [6] * 9 + [6], [0] * 9 + [0] * 9 + [1])
    baseline = SizeBaseline(CLASSES, items, items)
    baseline.fit()
    # Of the large ones, all of class 1 stand against half of class 0.
    assert baseline.probabilities["c18"] == pytest.approx(2 / 3, abs=0.03)
    assert baseline.probabilities["c0"] < 0.2


def test_one_size_of_all_tells_nothing(tmp_path: Path) -> None:
    items = write_masks(tmp_path, [4] * 4, [0, 1, 1, 1])
    baseline = SizeBaseline(CLASSES, items, items[:1])
    baseline.fit()
    assert baseline.probabilities == {"c0": pytest.approx(0.5, abs=0.01)}


def test_a_missing_and_an_empty_mask_are_named(tmp_path: Path) -> None:
    items = write_masks(tmp_path, [3, 0], [0, 1])
    with pytest.raises(ValueError, match=r"1\.nii, the mask of c1, is empty"):
        SizeBaseline(CLASSES, items, items).fit()
    with pytest.raises(ValueError, match="c7 has no mask, so its size is unknown"):
        SizeBaseline(CLASSES, [{"case": "c7", "label": 0}], []).fit()
