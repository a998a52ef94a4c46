from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer

from med3d_components.inferers import PrecisionInferer


def dtypes_seen(precision: str, length: int = 20, learns: bool = True) -> tuple[torch.dtype, torch.dtype]:
    """Return the types that a convolution and the caller see."""
    seen: list[torch.dtype] = []
    layer = torch.nn.Conv3d(1, 1, 1)
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.set_grad_enabled(learns):
        result = PrecisionInferer(SimpleInferer(), precision)(torch.rand(1, 1, length, 4, 4), layer)
    return seen[0], result.dtype


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("float32", torch.float32)]
)
def test_the_network_runs_in_the_precision_that_was_asked_for_and_returns_float32(
    precision: str, dtype: torch.dtype
) -> None:
    assert dtypes_seen(precision) == (dtype, torch.float32)


def test_gradients_pass_in_float32() -> None:
    layer = torch.nn.Conv3d(1, 1, 1)
    PrecisionInferer(SimpleInferer(), "bf16")(torch.rand(1, 1, 20, 4, 4), layer).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_another_precision_is_an_error_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="precision is 'half', but must be auto, bf16, fp16, float32"):
        PrecisionInferer(SimpleInferer(), "half")


def test_training_on_a_thin_first_axis_stays_in_float32_on_a_cpu() -> None:
    assert dtypes_seen("bf16", length=16)[0] == torch.float32
    assert dtypes_seen("bf16", length=17)[0] == torch.bfloat16
    assert dtypes_seen("bf16", length=16, learns=False)[0] == torch.bfloat16


def test_small_regions_train_the_same_twice() -> None:
    def gradient() -> torch.Tensor:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(*(torch.nn.Conv3d(64, 64, 3, padding=1) for _ in range(2)))
        PrecisionInferer(SimpleInferer(), "bf16")(torch.rand(2, 64, 2, 8, 8), layers).sum().backward()
        return torch.cat([weights.grad.flatten() for weights in layers.parameters() if weights.grad is not None])

    assert torch.equal(gradient(), gradient())
