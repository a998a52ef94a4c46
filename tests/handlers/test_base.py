"""Tables and pictures tell of the network that a training keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.engines import SupervisedEvaluator

from med3d_components.handlers import CaseReport, OverlayPictures, pictures
from med3d_components.metrics.cases import CaseMetric
from tests.handlers.conftest import rows

Validate = Callable[..., SupervisedEvaluator]


class Known(CaseMetric):
    """Scores that are known beforehand."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.scores = list(scores)
        super().__init__()

    def update(self, output: Any) -> None:
        """ignite asks for it."""

    def add(self, item: Any, output: Any) -> None:
        self.details[item["case"]] = self.scores[0]

    def summary(self) -> dict[str, float]:
        return {}

    def score(self) -> float:
        return self.scores.pop(0)

    def row(self, case: Any, detail: Any) -> dict[str, Any]:
        return {"case": case, "score": detail}


@pytest.fixture
def validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Validate:
    """Validate in epochs that follow each other, and note in which ones a picture was drawn."""
    drawn: list[int] = []

    def run(scores: Sequence[float], first: int = 1, **state: Any) -> SupervisedEvaluator:
        volume = torch.zeros(1, 1, 4, 4, 4)
        evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=[{"case": ["a"], "image": volume, "label": volume}],
            network=torch.nn.Identity(),
            key_val_metric={"val_mean_dice": Known(scores)},
            val_handlers=[CaseReport(tmp_path), OverlayPictures(tmp_path)],
        )
        for name, value in state.items():
            setattr(evaluator.state, name, value)
        monkeypatch.setattr(pictures, "draw_overlays", lambda path, kept: drawn.append(evaluator.state.epoch))
        for epoch in range(first, first + len(scores)):
            evaluator.run(epoch)
        evaluator.drawn = drawn
        return evaluator

    return run


def test_tables_and_pictures_are_those_of_the_best_epoch(validate: Validate, tmp_path: Path) -> None:
    assert validate([0.2, 0.5, 0.4, 0.3]).drawn == [1, 2]
    assert rows(tmp_path / "cases.csv") == [{"case": "a", "score": "0.5"}]


def test_a_resumed_run_leaves_the_tables_of_a_better_epoch(validate: Validate, tmp_path: Path) -> None:
    validate([0.2, 0.5])
    evaluator = validate([0.4], first=3, best_metric=0.5, best_metric_epoch=2)
    assert evaluator.drawn == [1, 2]
    assert rows(tmp_path / "cases.csv") == [{"case": "a", "score": "0.5"}]


def test_they_are_those_of_the_last_epoch_where_the_last_is_kept(validate: Validate, tmp_path: Path) -> None:
    assert validate([0.5, 0.3], keep_last=True).drawn == [1, 2]
    assert rows(tmp_path / "cases.csv") == [{"case": "a", "score": "0.3"}]


def test_they_are_those_of_the_last_epoch_until_one_has_a_score(validate: Validate, tmp_path: Path) -> None:
    # As a training that is resumed has it: no epoch was best so far.
    evaluator = validate([math.nan], first=3, best_metric=-math.inf, best_metric_epoch=0)
    assert evaluator.drawn == [3]
    assert rows(tmp_path / "cases.csv") == [{"case": "a", "score": ""}]


def test_an_evaluation_of_its_own_always_writes(validate: Validate, tmp_path: Path) -> None:
    assert validate([math.nan]).drawn == [1]
    assert (tmp_path / "cases.csv").is_file()
