"""Mistakes that no CPU shows, to be planted in a bundle's config."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.transforms import MapTransform


class Agreement(Metric):
    """A metric that compares a prediction with a label that was left on the CPU."""

    def reset(self) -> None:
        self.shares: list[float] = []

    def iteration_completed(self, engine: Engine) -> None:
        for output in engine.state.output:
            self.shares.append(float((output["pred"] == output["label"].cpu()).float().mean()))

    def compute(self) -> float:
        return sum(self.shares) / len(self.shares)

    update = iteration_completed


class VolumeLog:
    """A handler that asks a prediction for numpy."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.log)

    def log(self, engine: Engine) -> None:
        for output in engine.state.output:
            engine.logger.info("%d voxels", output["pred"].numpy().sum())


class Tilted(MapTransform):
    """A transform that adds a tensor which it makes on the CPU."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = result[key] + torch.linspace(0, 0.1, result[key].shape[-1])
        return result
