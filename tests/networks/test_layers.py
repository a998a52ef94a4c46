from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from med3d_components.networks import DilatedResNet, layers
from med3d_components.networks.layers import DilatedConv3d, FastMaxPool3d


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the fast ways for the small maps of a test, too, whatever the processor."""
    for name, value in (("LEAST_CHANNELS", 0), ("LEAST_VOXELS", {}), ("OTHERS_LEAST_VOXELS", 0)):
        monkeypatch.setattr(layers, name, value)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


takes_the_fast_way = pytest.mark.usefixtures("fast")


def pair(dilation: int, dtype: torch.dtype = torch.float64) -> tuple[DilatedConv3d, nn.Conv3d]:
    ours = DilatedConv3d(3, 5, dilation, dtype=dtype)
    stock = nn.Conv3d(3, 5, 3, padding=dilation, dilation=dilation, bias=False, dtype=dtype)
    stock.load_state_dict(ours.state_dict())
    return ours, stock


def gradients(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    x = x.detach().requires_grad_()
    output = network(x)
    shape = output.shape
    output.backward(torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(shape))
    return output, x.grad, *(p.grad for p in network.parameters())  # type: ignore[return-value]


@takes_the_fast_way
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("size", [(8, 8, 8), (12, 9, 5), (4, 1, 3)], ids=str)
def test_output_and_gradients_are_those_of_the_stock_convolution(dilation: int, size: tuple[int, int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    for ours, theirs in zip(*(gradients(conv, x) for conv in pair(dilation)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@takes_the_fast_way
def test_under_autocast_too() -> None:
    x = torch.randn(2, 3, 8, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        results = [gradients(conv, x) for conv in pair(2, torch.float32)]
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0.01, atol=0.01 * theirs.abs().max().item())


@takes_the_fast_way
def test_an_input_that_needs_no_gradient_gets_none() -> None:
    ours, stock = pair(2)
    x = torch.randn(1, 3, 6, 6, 6, dtype=torch.float64)
    for conv in (ours, stock):
        conv(x).sum().backward()
    torch.testing.assert_close(ours.weight.grad, stock.weight.grad)


@takes_the_fast_way
def test_a_frozen_weight_passes_gradients_on() -> None:
    ours, stock = (conv.requires_grad_(False) for conv in pair(2))
    x = torch.randn(1, 3, 6, 6, 6, dtype=torch.float64)
    for mine, theirs in zip(*(gradients(conv, x) for conv in (ours, stock)), strict=True):
        torch.testing.assert_close(mine, theirs)


@takes_the_fast_way
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_pooling_is_that_of_the_stock_layer(dtype: torch.dtype, layout: torch.memory_format) -> None:
    # No two values are equal, so there is one place for each gradient.
    x = torch.randperm(2 * 3 * 7 * 6 * 5).reshape(2, 3, 7, 6, 5)
    x = (x % 211 if dtype is torch.bfloat16 else x).to(dtype).contiguous(memory_format=layout)
    ours, stock = (pool(kernel_size=3, stride=2, padding=1) for pool in (FastMaxPool3d, nn.MaxPool3d))
    assert torch.equal(ours(x), stock(x))
    if dtype is not torch.bfloat16:
        for mine, theirs in zip(*(gradients(pool, x) for pool in (ours, stock)), strict=True):
            torch.testing.assert_close(mine, theirs)


ONEDNN = {"all": (torch.backends.mkldnn, "is_available"), "bfloat16": (torch.ops.mkldnn, "_is_mkldnn_bf16_supported")}


@takes_the_fast_way
@pytest.mark.parametrize("question", ONEDNN.values(), ids=ONEDNN)
def test_pooling_is_torchs_own_where_onednn_cannot(question: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*question, lambda: False)
    x = torch.randn(1, 2, 6, 6, 6).bfloat16()
    pool = FastMaxPool3d(kernel_size=3, stride=2, padding=1)
    monkeypatch.setattr(torch.Tensor, "to_mkldnn", lambda self: pytest.fail("oneDNN was asked"))
    assert torch.equal(pool(x), nn.functional.max_pool3d(x, 3, 2, 1))


@takes_the_fast_way
@pytest.mark.parametrize("depth", [10, 50])
def test_a_whole_encoder_learns_the_same(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = DilatedResNet(depth).double()
    x = torch.randn(2, 1, 24, 24, 16, dtype=torch.float64)

    def learn() -> list[Any]:
        encoder.zero_grad()
        encoder(x)[-1].square().mean().backward()
        return [p.grad.clone() for p in encoder.parameters() if p.grad is not None]

    ours = learn()
    monkeypatch.setattr(DilatedConv3d, "forward", nn.Conv3d.forward)
    theirs = learn()
    assert len(ours) == len(list(encoder.parameters()))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10)


@takes_the_fast_way
def test_layers_that_learn_can_be_traced_scripted_and_exported() -> None:
    network, x = nn.Sequential(DilatedConv3d(1, 2, dilation=2), FastMaxPool3d(3, 2, 1)), torch.randn(1, 1, 8, 8, 8)
    expected = network(x)
    assert expected.requires_grad
    traced, scripted, exported = (
        torch.jit.trace(network, x),
        torch.jit.script(network),
        torch.export.export(network, (x,)),
    )
    for graph in (traced, scripted, exported.module()):
        torch.testing.assert_close(graph(x), expected)


@pytest.mark.parametrize(
    ("instructions", "channels", "edge", "fast"),
    [
        ("AVX512", 256, 6, True),
        ("AVX512", 256, 5, False),
        ("AVX512", 128, 16, False),
        ("AVX2", 512, 8, True),
        ("AVX2", 512, 7, False),
        ("SVE256", 256, 8, True),
    ],
)
def test_taps_are_taken_by_a_rule_on_instructions_and_shape(
    instructions: str, channels: int, edge: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    conv = DilatedConv3d(channels, channels, 2, device="meta")
    assert layers._suits_taps(torch.empty(1, channels, edge, edge, edge), conv.weight) == fast


@pytest.mark.parametrize(
    ("instructions", "edge", "fast"), [("AVX512", 48, True), ("AVX512", 64, False), ("AVX2", 32, False)]
)
def test_so_is_onednns_pooling(instructions: str, edge: int, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    assert layers._suits_onednn(torch.empty(1, 64, edge, edge, edge)) == fast
