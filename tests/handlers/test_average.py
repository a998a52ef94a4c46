"""The running average of the weights: what is validated, kept and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from med3d_components.engines import PrecisionTrainer
from tests.handlers.tiny_training import assert_equal_runs, interrupted, read, train


def model(folder: Path) -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = torch.load(folder / "models" / "model.pt", weights_only=True)
    return content


def test_the_average_is_kept_and_not_the_weights_of_the_moment(tmp_path: Path) -> None:
    train(tmp_path, decay=0.9, keep="last")
    last: Any = read(tmp_path)
    kept = model(tmp_path)
    assert all(torch.equal(x, last["average"]["network"][name]) for name, x in kept.items())
    assert not torch.equal(kept["head.weight"], last["network"]["head.weight"])
    encoder = torch.load(tmp_path / "checkpoints" / "encoder.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(x, kept[f"encoder.{name}"]) for name, x in encoder.items())


def test_the_average_is_that_of_all_steps_with_a_memory_that_grows(tmp_path: Path) -> None:
    weights: list[torch.Tensor] = []

    def watch(trainer: PrecisionTrainer) -> None:
        head: Any = trainer.network.get_submodule("head")
        weights.append(head.weight.detach().clone())
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: weights.append(head.weight.detach().clone()))

    train(tmp_path, decay=0.99, keep="last", watch=watch)
    average = weights[0]
    for step, weight in enumerate(weights[1:]):
        momentum = max(0.01, 0.1 - 0.09 * step / 3)
        average = (1 - momentum) * average + momentum * weight
    assert torch.allclose(model(tmp_path)["head.weight"], average, atol=1e-6)


def test_weights_that_do_not_learn_stay_exactly_as_they_are_in_the_average(tmp_path: Path) -> None:
    before: list[torch.Tensor] = []

    def freeze(trainer: PrecisionTrainer) -> None:
        encoder = trainer.network.get_submodule("encoder").requires_grad_(False)
        before.extend(weights.clone() for weights in encoder.parameters())

    trainer = train(tmp_path, decay=0.9, keep="last", watch=freeze)
    names = [f"encoder.{name}" for name, _ in trainer.network.get_submodule("encoder").named_parameters()]
    kept = model(tmp_path)
    assert all(torch.equal(kept[name], weights) for name, weights in zip(names, before, strict=True))


def test_an_interrupted_run_goes_on_with_its_average(tmp_path: Path) -> None:
    train(tmp_path / "whole", decay=0.99)
    for stop in (2, 6):
        interrupted(143, tmp_path / str(stop), stop=stop, decay=0.99)
        train(tmp_path / str(stop), decay=0.99, resume=True)
        assert_equal_runs(tmp_path / str(stop), tmp_path / "whole")


def test_without_decay_there_is_no_average(tmp_path: Path) -> None:
    trainer = train(tmp_path, keep="last")
    assert read(tmp_path)["average"] == {}
    assert torch.equal(model(tmp_path)["head.weight"], trainer.network.head.weight)
