"""A tiny training whose score is known beforehand."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from med3d_components.engines import PrecisionTrainer
from med3d_components.handlers import RateSchedule, TrainingCheckpoint, TrainingReport, WeightAverage
from med3d_components.networks import Med3DNet

Train = Callable[..., PrecisionTrainer]
ORIGIN = {"bundle": "tiny", "trained_on": ["liver"]}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train for as many epochs as there are scores; a score of None stands for an epoch without validation.

    What learns is the network's last parameter.
    """

    def run(
        scores: list[float | None],
        resume: bool = False,
        settings: Mapping[str, Any] = MappingProxyType({"depth": 10}),
        build: Callable[[], nn.Module] = lambda: Med3DNet({"liver": 2}, depth=10),
        precision: str = "float32",
        **arguments: Any,
    ) -> PrecisionTrainer:
        torch.manual_seed(0)
        network = build()
        *_, parameter = network.parameters()
        optimizer = torch.optim.SGD([parameter], lr=1.0)

        def step(engine: Engine, batch: float) -> list[dict[str, float]]:
            parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            if trainer.scaler is not None:
                trainer.scaler.scale(torch.ones(1))
                trainer.scaler.update(trainer.scaler.get_scale() / 2)
            trainer.state.losses.append(batch)
            return [{"loss": batch}]

        trainer = PrecisionTrainer(
            precision,
            device="cpu",
            max_epochs=len(scores),
            train_data_loader=[1.0, 2.0],
            network=network,
            optimizer=optimizer,
            loss_function=nn.MSELoss(),
            iteration_update=step,
        )
        evaluator = Engine(lambda engine, batch: None)
        evaluator.state.key_metric_name = "val_mean_dice"
        evaluator.state.epoch = 0

        def validate() -> None:
            score = scores[trainer.state.epoch - 1]
            if score is not None:
                evaluator.state.epoch = trainer.state.epoch
                scored = {"val_mean_dice": score, "liver": score, "liver/tumour": float("nan"), "liver/cases": 3}
                evaluator.state.metrics = scored

        trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
        TrainingReport(tmp_path / "eval", evaluator, resume).attach(trainer)
        RateSchedule(optimizer, lambda step: 0.5 ** (step // 2)).attach(trainer)
        checkpoint = TrainingCheckpoint(
            tmp_path / "models", tmp_path, network, optimizer, WeightAverage(network, 0),
            evaluator, {**ORIGIN, **settings}, resume,
            **arguments,
        )  # fmt: skip
        checkpoint.attach(trainer)
        trainer.run()
        trainer.state.checkpoint = checkpoint
        return trainer

    return run
