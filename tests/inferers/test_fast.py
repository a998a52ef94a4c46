from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import nn

from med3d_components.inferers import FastInferer


def dtypes_seen(precision: str, length: int = 20, learns: bool = True) -> tuple[torch.dtype, torch.dtype]:
    """Return the types that a convolution and the caller see."""
    seen: list[torch.dtype] = []
    layer = torch.nn.Conv3d(1, 1, 1)
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.set_grad_enabled(learns):
        result = FastInferer(SimpleInferer(), precision)(torch.rand(1, 1, length, 4, 4), layer)
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
    FastInferer(SimpleInferer(), "bf16")(torch.rand(1, 1, 20, 4, 4), layer).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_another_precision_is_an_error_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="precision is 'half', but must be auto, bf16, fp16, float32"):
        FastInferer(SimpleInferer(), "half")


def test_training_on_a_thin_first_axis_stays_in_float32_on_a_cpu() -> None:
    assert dtypes_seen("bf16", length=16)[0] == torch.float32
    assert dtypes_seen("bf16", length=17)[0] == torch.bfloat16
    assert dtypes_seen("bf16", length=16, learns=False)[0] == torch.bfloat16


def test_small_regions_train_the_same_twice() -> None:
    def gradient() -> torch.Tensor:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(*(torch.nn.Conv3d(64, 64, 3, padding=1) for _ in range(2)))
        FastInferer(SimpleInferer(), "bf16")(torch.rand(2, 64, 2, 8, 8), layers).sum().backward()
        return torch.cat([weights.grad.flatten() for weights in layers.parameters() if weights.grad is not None])

    assert torch.equal(gradient(), gradient())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.ReLU(), nn.Conv3d(3, 2, 1))
    layers[1].running_mean.fill_(0.5)
    return layers.eval()


class Look(SimpleInferer):
    """An inferer that keeps the network which it was given."""

    def __call__(self, inputs, network, *args, **kwargs):
        self.network = network
        return super().__call__(inputs, network, *args, **kwargs)


IMAGE = torch.randn(1, 1, 8, 7, 6)


@torch.no_grad()
def test_the_network_runs_fused_with_channels_last_and_the_same_result() -> None:
    look, original = Look(), network()
    assert torch.allclose(FastInferer(look, "float32", fuse=True)(IMAGE, original), original(IMAGE), atol=1e-6)
    assert isinstance(look.network[1], nn.Identity)
    assert look.network[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert isinstance(original[1], nn.BatchNorm3d)


@torch.no_grad()
def test_weights_that_change_after_the_first_call_are_those_of_the_second() -> None:
    inferer, original = FastInferer(SimpleInferer(), "float32", fuse=True), network()
    inferer(IMAGE, original)
    original[1].running_mean.fill_(-3)
    assert torch.allclose(inferer(IMAGE, original), original(IMAGE), atol=1e-6)


@pytest.mark.parametrize("kind", ["script", "function", "training", "switched off"])
def test_what_cannot_be_fused_runs_as_it_is(kind: str) -> None:
    given = network()
    if kind == "script":
        given = torch.jit.script(given)
    elif kind == "function":
        given = torch.neg
    elif kind == "training":
        given.train()
    look = Look()
    FastInferer(look, "float32", fuse="false" if kind == "switched off" else True)(IMAGE, given)
    assert look.network is given


def test_a_wrong_flag_is_an_error() -> None:
    with pytest.raises(ValueError, match="fuse is 'yes', but must be true or false"):
        FastInferer(SimpleInferer(), fuse="yes")


@torch.no_grad()
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_an_output_that_is_no_number_is_an_error_but_in_training(wrong: float) -> None:
    given, fast = network(), FastInferer(SimpleInferer(), "float32")
    *_, parameter = given.parameters()
    parameter.flatten()[0] = wrong
    for image, name in ((IMAGE, "Volume 1 of the batch"), (MetaTensor(IMAGE, meta={"filename_or_obj": ["a"]}), "a")):
        with pytest.raises(ValueError, match=f"What the network gives for {name} is NaN or infinite: the weights"):
            fast(image, given)
    assert not fast(IMAGE, given.train()).isfinite().all()


def test_numbers_beyond_those_of_fp16_are_computed_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    network = nn.Conv3d(1, 1, 1, bias=False).eval()
    nn.init.constant_(network.weight, 1e5)
    image = torch.full((1, 1, 4, 4, 4), 10.0)
    with torch.no_grad():
        result = FastInferer(SimpleInferer(), precision="fp16")(image, network)
    assert torch.equal(result, torch.full_like(image, 1e6))
    assert "beyond those of fp16; it is computed in float32" in caplog.text
