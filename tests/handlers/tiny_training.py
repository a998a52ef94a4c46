"""A training of a second with all that real ones have: augmentation, dropout, BatchNorm, validation, checkpoints."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from ignite.engine import Events
from ignite.metrics import Average
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from torch import nn

from med3d_components.data import DomainBatchSampler
from med3d_components.engines import PrecisionTrainer
from med3d_components.handlers import (
    EarlyStop,
    EncoderFreezer,
    EpochSeeder,
    Interruption,
    RateSchedule,
    TrainingCheckpoint,
    Validation,
    WeightAverage,
)
from med3d_components.rates import parameter_groups, rate_share

CASES, STEPS = 7, 4  # of two each, the last of one


SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name)]


class Encoder(nn.Sequential):
    """Draws, and has statistics."""

    settings: Mapping[str, Any] = MappingProxyType({"depth": 1})

    def __init__(self) -> None:
        super().__init__(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Dropout(0.5))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(), nn.Conv3d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))  # type: ignore[no-any-return]


class Scans(Dataset):
    """Augments by the seed of the draw, as ScanDataset does."""

    def __getitem__(self, index: Any) -> dict[str, torch.Tensor]:
        case, seed = index
        image = torch.rand(1, 4, 4, 4, generator=torch.Generator().manual_seed(seed)) + case
        return {"image": image, "label": image.sin()}


def score(output: Mapping[str, torch.Tensor]) -> float:
    return -float((output["pred"] - output["label"]).square().mean())


def train(
    folder: Path,
    epochs: int = 3,
    stop: int = 0,
    by: int = signal.SIGTERM,
    while_validating: int = 0,
    resume: bool = False,
    workers: int = 0,
    accumulation: int = 1,
    batch_size: int = 2,
    rate: float = 0.1,
    freeze: int = 0,
    decay: float = 0,
    val_interval: int = 1,
    patience: int = 0,
    output: Callable[[Any], Any] = score,
    watch: Callable[[PrecisionTrainer], None] = lambda trainer: None,
    **arguments: Any,
) -> PrecisionTrainer:
    """Train; the signal comes in step ``stop``, or in the validation of epoch ``while_validating``."""
    torch.manual_seed(0)
    network = Network()
    data = Scans([{"domain": "x"}] * CASES)
    sampler = DomainBatchSampler(data, batch_size)
    optimizer = torch.optim.Adam(parameter_groups(network, rate, 2))
    schedule = RateSchedule(optimizer, lambda step: rate_share(step, len(sampler), epochs, "polynomial"))
    average = WeightAverage(network, decay, warmup_steps=4)
    held = [{"image": torch.full((1, 1, 4, 4, 4), 0.5), "label": torch.full((1, 1, 4, 4, 4), 0.3)}] * 2
    evaluator = SupervisedEvaluator(
        "cpu", held, average.network, key_val_metric={"score": Average(output_transform=output)}, decollate=False
    )
    options = {"learning_rate": rate, "epochs": epochs, "batch_size": batch_size, "seed": 0, "num_workers": workers}
    options |= {"patience": patience, "keep": arguments.get("keep", "best"), **arguments.pop("options", {})}
    trainer = PrecisionTrainer(
        "float32",
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(data, batch_sampler=sampler, num_workers=workers),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        accumulation_steps=accumulation,
        optim_set_to_none=True,
        decollate=False,
        train_handlers=[
            EpochSeeder(sampler, network),
            EncoderFreezer(network, freeze),
            schedule,
            Validation(val_interval, evaluator),
            TrainingCheckpoint(
                folder / "models", folder, network, optimizer, average, evaluator,
                {"bundle": "tiny", "trained_on": ["x"]}, resume, options, **arguments,
            ),
            EarlyStop(evaluator, patience),
            Interruption(evaluator),
        ],
    )  # fmt: skip

    def send() -> None:
        if stop and trainer.state.iteration == stop:
            signal.raise_signal(by)

    def send_validating() -> None:
        if while_validating and trainer.state.epoch == while_validating:
            signal.raise_signal(by)

    trainer.add_event_handler(IterationEvents.FORWARD_COMPLETED, send)
    evaluator.add_event_handler(Events.ITERATION_STARTED, send_validating)
    watch(trainer)
    trainer.run()
    return trainer


def interrupted(code: int, folder: Path, **arguments: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        train(folder, **arguments)
    assert ended.value.code == code


def read(folder: Path, name: str = "last") -> dict[str, Any]:
    place = "models" if name == "model" else "checkpoints"
    content: dict[str, Any] = torch.load(folder / place / f"{name}.pt", weights_only=True)
    return content


def same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def assert_equal_runs(one: Path, two: Path) -> None:
    last, other = read(one), read(two)
    for content in (last, other):
        del content["options"]["num_workers"]
    assert same(last, other)
    assert same(read(one, "model"), read(two, "model"))
    assert same(read(one, "encoder"), read(two, "encoder"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scored(*by_epoch: float) -> Callable[[Any], float]:
    each = iter([value for value in by_epoch for _ in range(2)])
    return lambda output: next(each)


def die_in(step: int) -> Callable[[PrecisionTrainer], None]:
    return lambda trainer: trainer.add_event_handler(Events.ITERATION_STARTED(once=step), lambda: 1 / 0) and None
