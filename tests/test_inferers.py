from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer

from med3d_components.inferers import DomainSlidingWindowInferer, PrecisionInferer


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


def test_windows_have_the_size_of_the_domain_and_the_network_is_told_it() -> None:
    calls = []

    def network(x: torch.Tensor, domain: str) -> torch.Tensor:
        calls.append((tuple(x.shape[2:]), domain))
        return x

    image = torch.rand(1, 1, 20, 20, 20)
    inferer = DomainSlidingWindowInferer({"a": (16, 16, 16), "b": (24, 24, 24)})
    for domain in "ab":
        assert torch.allclose(inferer(image, network, domain=domain), image, atol=1e-6)
    assert set(calls) == {((16, 16, 16), "a"), ((24, 24, 24), "b")}
