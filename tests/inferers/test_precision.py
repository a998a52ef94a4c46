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

    result = PrecisionInferer(SimpleInferer(), bf16)(torch.rand(1, 1, 4, 4, 4), network)
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
