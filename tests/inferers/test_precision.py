from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer

from med3d_components.inferers import PrecisionInferer


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), ("false", torch.float32)])
def test_the_network_runs_in_the_precision_of_the_flag_and_returns_float32(
    bf16: bool | str, dtype: torch.dtype
) -> None:
    seen = []
    layer = torch.nn.Conv3d(1, 1, 1)

    def network(x: torch.Tensor) -> torch.Tensor:
        y = layer(x)
        seen.append(y.dtype)
        return y

    result = PrecisionInferer(SimpleInferer(), bf16)(torch.rand(1, 1, 20, 4, 4), network)
    assert seen == [dtype]
    assert result.dtype == torch.float32


def test_gradients_pass_in_float32() -> None:
    layer = torch.nn.Conv3d(1, 1, 1)
    PrecisionInferer(SimpleInferer())(torch.rand(1, 1, 4, 4, 4), layer).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_a_wrong_flag_is_an_error() -> None:
    with pytest.raises(ValueError, match="bf16 is 'yes', but must be true or false"):
        PrecisionInferer(SimpleInferer(), "yes")


@pytest.mark.parametrize(("length", "dtype"), [(16, torch.float32), (17, torch.bfloat16)])
def test_training_on_a_thin_first_axis_stays_in_float32_on_a_cpu(length: int, dtype: torch.dtype) -> None:
    layer, seen = torch.nn.Conv3d(1, 1, 1), []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    inferer, thin = PrecisionInferer(SimpleInferer()), torch.rand(1, 1, length, 4, 4)
    inferer(thin, layer)
    with torch.no_grad():
        inferer(thin, layer)
    assert seen == [dtype, torch.bfloat16]


def test_small_regions_train_the_same_twice() -> None:
    def gradient() -> torch.Tensor:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(*(torch.nn.Conv3d(64, 64, 3, padding=1) for _ in range(2)))
        PrecisionInferer(SimpleInferer())(torch.rand(2, 64, 2, 8, 8), layers).sum().backward()
        return torch.cat([weights.grad.flatten() for weights in layers.parameters() if weights.grad is not None])

    assert torch.equal(gradient(), gradient())
