from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from med3d_components.engines import PrecisionTrainer, PrepareBatchDomain
from med3d_components.inferers import FastInferer


def test_the_network_is_told_the_domain_of_the_batch() -> None:
    batch = {"image": torch.ones(2, 1, 4, 4, 4), "label": torch.zeros(2, 1, 4, 4, 4), "domain": ["liver", "liver"]}
    image, label, args, kwargs = PrepareBatchDomain()(batch)
    assert image.shape == label.shape
    assert (args, kwargs) == ((), {"domain": "liver"})


def test_a_batch_of_two_domains_is_an_error() -> None:
    batch = {"image": torch.ones(2, 1, 4, 4, 4), "label": torch.zeros(2, 1, 4, 4, 4), "domain": ["liver", "brain"]}
    with pytest.raises(ValueError, match="holds brain, liver"):
        PrepareBatchDomain()(batch)


def train(precision: str, factors: Sequence[float], accumulation_steps: int = 1) -> PrecisionTrainer:
    """Train one epoch on as many batches as there are factors of the loss."""
    torch.manual_seed(0)
    network = nn.Conv3d(1, 2, 1)
    batches = [{"image": torch.rand(1, 1, 20, 4, 4), "label": torch.full((1,), float(factor))} for factor in factors]
    trainer = PrecisionTrainer(
        precision=precision,
        device="cpu",
        max_epochs=1,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=lambda pred, factor: pred.square().mean() * factor,
        inferer=FastInferer(SimpleInferer(), precision),
        accumulation_steps=accumulation_steps,
        decollate=False,
    )
    if factors:
        trainer.run()
    return trainer


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training_before_it_reaches_the_weights(factor: float) -> None:
    trainer = train("float32", [])
    trainer = train_on(trainer, [0.1])
    before = weights(trainer).clone()
    advice = "try a smaller --learning_rate, or look at these cases"
    with pytest.raises(ValueError, match=rf"The loss of step 1, epoch 1, is {factor} \(cases: \); {advice}"):
        train_on(trainer, [factor, 0.1])
    assert torch.equal(weights(trainer), before)


@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_that_are_not_finite_end_the_training_before_they_reach_the_weights(steps: int) -> None:
    trainer = train("float32", [], steps)
    before = weights(trainer).clone()
    # The root of 0 is finite, its slope is not.
    trainer.loss_function = lambda pred, factor: (pred.square().mean() * (factor - factor)).sqrt()
    with pytest.raises(
        ValueError, match=rf"The gradients of step {steps}, epoch 1, are not finite, though the loss is 0"
    ):
        train_on(trainer, [0.1, 0.1])
    assert torch.equal(weights(trainer), before)


@pytest.mark.parametrize(("skipped", "fails"), [(19, False), (20, True)])
def test_fp16_ends_after_twenty_steps_in_a_row_that_are_left_out(skipped: int, fails: bool) -> None:
    factors = [0.1, *[float("inf")] * skipped, 0.1]
    if fails:
        with pytest.raises(
            ValueError, match="20 steps in a row, up to step 21 of epoch 1, had a loss or gradients that"
        ):
            train("fp16", factors)
    else:
        assert torch.isfinite(weights(train("fp16", [*factors, *factors]))).all()


def train_on(trainer: PrecisionTrainer, factors: Sequence[float]) -> PrecisionTrainer:
    """Train another epoch."""
    trainer.data_loader = [
        {"image": torch.rand(1, 1, 20, 4, 4), "label": torch.full((1,), float(factor))} for factor in factors
    ]
    trainer.state.epoch_length, trainer.state.iteration, trainer.state.epoch = len(factors), 0, 0
    trainer.run()
    return trainer


def weights(trainer: PrecisionTrainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.network.parameters()])


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_training_in_fp16_scales_its_loss_and_moves_as_float32_does(steps: int) -> None:
    half, full = (train(precision, [0.1, 0.2, 0.1, 0.3, 0.1], steps) for precision in ("fp16", "float32"))
    assert full.scaler is None
    assert half.scaler is not None
    assert half.scaler.get_scale() > 1
    assert torch.allclose(weights(half), weights(full), atol=2e-3)
    assert not torch.equal(weights(half), weights(full))


def test_what_underflows_without_a_scaler_is_learnt_with_it() -> None:
    # Gradients of the maps of 1e-6 and less are nothing in fp16.
    moved = weights(train("fp16", [1e-3] * 20)) - weights(train("fp16", []))
    expected = weights(train("float32", [1e-3] * 20)) - weights(train("float32", []))
    assert torch.allclose(moved, expected, rtol=0.05, atol=1e-8)


def test_a_step_that_overflows_is_left_out_and_the_scale_halved() -> None:
    plain, overflown = train("fp16", [0.1, 0.1]), train("fp16", [0.1, float("inf"), 0.1])
    assert torch.isfinite(weights(overflown)).all()
    assert plain.scaler is not None
    assert overflown.scaler is not None
    assert overflown.scaler.get_scale() == plain.scaler.get_scale() / 2


def test_a_group_of_accumulated_batches_overflows_as_a_whole() -> None:
    overflown = train("fp16", [0.1, float("inf")], accumulation_steps=2)
    assert torch.equal(weights(overflown), weights(train("fp16", [])))
