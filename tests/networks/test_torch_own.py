"""What code that uses torch's own layers asks of them, asked of ours as well."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts
from torch.utils.flop_counter import FlopCounterMode

from med3d_components.engines import PrecisionTrainer
from med3d_components.inferers import FastInferer
from med3d_components.networks import DilatedResNet, build_network, layers
from med3d_components.networks.dense_aspp import CheckpointedSequential, DenseASPP3D
from med3d_components.networks.layers import DilatedConv3d, FastMaxPool3d

Tensors = list[torch.Tensor]
Use = Callable[[nn.Module, torch.Tensor], Tensors]

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit:DeprecationWarning",
    # torch's own, of its compiler and its backward passes.
    "ignore:Full backward hook is firing:UserWarning",
    "ignore:.*is deprecated.*:FutureWarning",
    "ignore:.*is deprecated.*:DeprecationWarning",
    "ignore:.*quantization.*:UserWarning",
)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the fast ways for the small maps of a test, too, whatever the processor."""
    for name, value in (("LEAST_CHANNELS", 0), ("LEAST_VOXELS", {}), ("OTHERS_LEAST_VOXELS", 0)):
        monkeypatch.setattr(layers, name, value)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    yield
    torch._dynamo.reset()  # type: ignore[no-untyped-call]


class Layers(nn.Module):
    """A layer before ours, so that a gradient has to pass through them."""

    def __init__(self, convolution: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv3d(2, 3, 3, padding=1)
        self.convolution = convolution
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.convolution(torch.tanh(self.first(x))))


def ours() -> nn.Module:
    torch.manual_seed(0)
    return Layers(DilatedConv3d(3, 4, 2), FastMaxPool3d(3, 2, 1))


def stock() -> nn.Module:
    network = Layers(nn.Conv3d(3, 4, 3, padding=2, dilation=2, bias=False), nn.MaxPool3d(3, 2, 1))
    network.load_state_dict(ours().state_dict())
    return network


def volumes() -> torch.Tensor:
    return torch.randn(2, 2, 8, 7, 6, generator=torch.Generator().manual_seed(1))


def gradients(network: nn.Module) -> Tensors:
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def step(network: nn.Module, x: torch.Tensor, run: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Tensors:
    """One step of a training: what comes out, and all gradients."""
    x = x.detach().requires_grad_()
    output = network(x) if run is None else run(x)
    output.square().sum().backward()
    return [output.detach(), x.grad, *gradients(network)]  # type: ignore[list-item]


def gradient_penalty(network: nn.Module, x: torch.Tensor) -> Tensors:
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    penalty = slope.square().sum()
    penalty.backward()
    return [slope.detach(), penalty.detach(), *gradients(network)]


def gradient_penalty_under_autocast(network: nn.Module, x: torch.Tensor) -> Tensors:
    with torch.autocast("cpu", torch.bfloat16):
        return gradient_penalty(network, x)


def gradient_of_gradients_of_weights(network: nn.Module, x: torch.Tensor) -> Tensors:
    weights = list(network.parameters())
    slopes = torch.autograd.grad(network(x).square().sum(), weights, create_graph=True)
    return list(torch.autograd.grad(sum(slope.square().sum() for slope in slopes), weights))


def loss_of(network: nn.Module) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    return lambda weights, x: functional_call(network, weights, (x,)).square().sum()


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return dict(network.named_parameters())


def features(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return network(x).mean((0, 2, 3, 4))


def jacobian_in_a_batch(network: nn.Module, x: torch.Tensor) -> Tensors:
    x = x.detach().requires_grad_()
    return list(torch.autograd.grad(features(network, x), x, torch.eye(4), is_grads_batched=True))


def jacobian_by_vmap(network: nn.Module, x: torch.Tensor) -> Tensors:
    x = x.detach().requires_grad_()
    output = features(network, x)
    return [vmap(lambda direction: torch.autograd.grad(output, x, direction)[0])(torch.eye(4))]


def dual_numbers(network: nn.Module, x: torch.Tensor) -> Tensors:
    with forward_ad.dual_level():
        output = network(forward_ad.make_dual(x, torch.ones_like(x)))
        return [forward_ad.unpack_dual(output).tangent]


def saved_elsewhere(network: nn.Module, x: torch.Tensor) -> Tensors:
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda saved: saved):
        output = network(x)
    output.square().sum().backward()
    return gradients(network)


def kept_convolutions(network: nn.Module, x: torch.Tensor) -> Tensors:
    keep = partial(create_selective_checkpoint_contexts, [torch.ops.aten.convolution.default])
    return step(network, x, lambda x: checkpoint(network, x, use_reentrant=False, context_fn=keep))


def backward_under_autocast(network: nn.Module, x: torch.Tensor) -> Tensors:
    loss = network(x).square().sum()
    with torch.autocast("cpu", torch.bfloat16):
        loss.backward()
    return gradients(network)


def double_under_autocast(network: nn.Module, x: torch.Tensor) -> Tensors:
    with torch.autocast("cpu", torch.bfloat16):
        return step(network.double(), x.double())


def backward_hooks(network: nn.Module, x: torch.Tensor) -> Tensors:
    seen: Tensors = []
    for layer in (network.convolution, network.pool):
        layer.register_full_backward_hook(lambda layer, inputs, outputs: seen.extend([*inputs, *outputs]))
    return [*step(network, x), *seen]


def counted(network: nn.Module, x: torch.Tensor) -> Tensors:
    with FlopCounterMode(display=False) as counter:
        step(network, x)
    return [torch.tensor(float(counter.get_total_flops()))]


def with_weight_norm(network: nn.Module, x: torch.Tensor) -> Tensors:
    nn.utils.parametrizations.weight_norm(network.convolution)
    return gradient_penalty(network, x)


def in_channels_last(network: Any, x: torch.Tensor) -> Tensors:
    layout = torch.channels_last_3d
    return gradient_penalty(network.to(memory_format=layout), x.contiguous(memory_format=layout))


def twice(network: nn.Module, x: torch.Tensor) -> Tensors:
    loss = network(x).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    return gradients(network)


def compiled(network: nn.Module, x: torch.Tensor, backend: str) -> Tensors:
    return step(network, x, torch.compile(network, backend=backend, fullgraph=True))


def traced(network: nn.Module, x: torch.Tensor) -> Tensors:
    return [torch.fx.symbolic_trace(network)(x), make_fx(network)(x)(x), torch.export.export(network, (x,)).module()(x)]


USES: dict[str, Use] = {
    "a gradient penalty": gradient_penalty,
    "a gradient penalty under autocast": gradient_penalty_under_autocast,
    "a gradient penalty in channels last": in_channels_last,
    "a gradient penalty of a copy": lambda n, x: gradient_penalty(pickle.loads(pickle.dumps(copy.deepcopy(n))), x),
    "a gradient penalty of normalised weights": with_weight_norm,
    "gradients of gradients of weights": gradient_of_gradients_of_weights,
    "torch.func.grad": lambda n, x: list(grad(loss_of(n))(weights_of(n), x).values()),
    "gradients per sample": lambda n, x: list(
        vmap(grad(lambda w, sample: loss_of(n)(w, sample[None])), (None, 0))(weights_of(n), x).values()
    ),
    "torch.func.vjp": lambda n, x: [vjp(n, x)[1](torch.ones(2, 4, 4, 4, 3))[0]],
    "torch.func.jvp": lambda n, x: list(jvp(n, (x,), (torch.ones_like(x),))),
    "torch.func.jacrev": lambda n, x: [jacrev(partial(features, n))(x)],
    "torch.func.hessian": lambda n, x: [hessian(lambda scale: n(x * scale).square().mean())(torch.tensor(1.0))],
    "a jacobian in a batch": jacobian_in_a_batch,
    "a jacobian by vmap": jacobian_by_vmap,
    "forward-mode differentiation": dual_numbers,
    "checkpointing": lambda n, x: step(n, x, lambda x: checkpoint(n, x, use_reentrant=False)),
    "reentrant checkpointing": lambda n, x: step(n, x, lambda x: checkpoint(n, x, use_reentrant=True)),
    "selective checkpointing": kept_convolutions,
    "hooks on what is saved": saved_elsewhere,
    "hooks on gradients": backward_hooks,
    "counting operations": counted,
    "a backward pass under autocast": backward_under_autocast,
    "double precision under autocast": double_under_autocast,
    "two backward passes": twice,
    "an input without a batch": lambda n, x: [n(x[0])],
    "MONAI's tensors": lambda n, x: step(n, x, lambda x: n(MetaTensor(x)).as_tensor()),
    "graphs of other tools": traced,
    "torch.compile, forward": partial(compiled, backend="eager"),
    "torch.compile, forward and backward": partial(compiled, backend="aot_eager"),
}


@pytest.mark.parametrize("use", USES)
def test_our_layers_do_what_torchs_own_do_in(use: str) -> None:
    results = [USES[use](network, volumes()) for network in (ours(), stock())]
    assert len(results[0]) == len(results[1])
    for mine, theirs in zip(*results, strict=True):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_right_in_double_precision() -> None:
    x = torch.randn(1, 2, 4, 4, 3, dtype=torch.float64, requires_grad=True)
    network = ours().double()
    assert torch.autograd.gradcheck(network, (x,))
    assert torch.autograd.gradgradcheck(network, (x,))


@pytest.mark.slow  # the C++ compiler takes its time
def test_inductors_code_computes_what_torchs_own_layers_do() -> None:
    for mine, theirs in zip(compiled(ours(), volumes(), "inductor"), step(stock(), volumes()), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_a_penalty_on_the_gradient_of_a_whole_encoder_is_that_of_torchs_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = DilatedResNet(10).double()
    x = torch.randn(1, 1, 16, 16, 16, dtype=torch.float64)

    def learn() -> Tensors:
        encoder.zero_grad()
        image = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(encoder(image)[-1].square().mean(), image, create_graph=True)
        slope.square().sum().backward()
        return gradients(encoder)

    mine = learn()
    monkeypatch.setattr(DilatedConv3d, "forward", nn.Conv3d.forward)
    monkeypatch.setattr(FastMaxPool3d, "forward", nn.MaxPool3d.forward)
    for a, b in zip(mine, learn(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


COARSE = {"task": "coarse", "num_classes": {"liver": 2}, "depth": 10}
CASCADE = {"task": "cascade", "depth": 10, "roi_size": [32, 32, 32], "dropout": 0.0, "coarse": COARSE}
NETWORKS: dict[str, dict[str, Any]] = {
    "domains": {"task": "domains", "num_classes": {"liver": 2, "spleen": 3}, "depth": 10},
    "segmentation": {"task": "segmentation", "num_classes": 2, "depth": 10},
    "shortcut A": {"task": "segmentation", "num_classes": 2, "depth": 18},
    "classification": {"task": "classification", "num_classes": 2, "depth": 10},
    "restoration": {"task": "restoration", "depth": 10},
    "cascade": CASCADE,
    "cascade with checkpointing": {**CASCADE, "checkpointing": True},
    "genesis": {"task": "restoration", "architecture": "genesis"},
    "genesis, classification": {"task": "classification", "architecture": "genesis", "num_classes": 2},
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if name != "domains"]


@pytest.mark.parametrize("name", ["domains", *SLOW])
@pytest.mark.parametrize(("training", "precision"), [(True, "float32"), (False, "bf16")])
def test_a_compiled_network_computes_what_it_does_otherwise(name: str, training: bool, precision: str) -> None:
    torch.manual_seed(0)
    network = build_network(NETWORKS[name]).train(training)
    other = copy.deepcopy(network)
    run = FastInferer(SimpleInferer(), precision)
    x = torch.randn(2, 1, 24, 16, 16)
    results = [
        step(network, x, lambda x: run(x, network)),
        step(other, x, lambda x: run(x, torch.compile(other, backend="aot_eager", fullgraph=True))),
    ]
    for plain, compiled in zip(*results, strict=True):
        assert (plain - compiled).norm() <= (0.03 if precision == "bf16" else 1e-4) * plain.norm()
    for plain, compiled in zip(network.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        CheckpointedSequential(nn.Sequential(nn.Conv3d(4, 3, 3), nn.BatchNorm3d(3)), nn.Conv3d(3, 2, 1)),
        DenseASPP3D(4, (1, 2), 6, 3, dropout=0.0, checkpointing=True),
    ],
    ids=lambda network: type(network).__name__,
)
def test_checkpointed_blocks_compile_and_change_their_statistics_once(network: nn.Module) -> None:
    other, x = copy.deepcopy(network), torch.randn(2, 4, 6, 6, 5)
    results = step(network, x), step(other, x, torch.compile(other, backend="aot_eager", fullgraph=True))
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-5, atol=1e-5)
    for plain, compiled in zip(network.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(plain, compiled)


def train(compiled: bool) -> Tensors:
    torch.manual_seed(0)
    network = ours()
    batches = [{"image": volumes(), "label": torch.ones(2, 4, 4, 4, 3)} for _ in range(2)]
    PrecisionTrainer(
        precision="float32",
        device="cpu",
        max_epochs=2,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=nn.MSELoss(),
        inferer=FastInferer(SimpleInferer(), "float32"),
        decollate=False,
        compile=compiled,
        compile_kwargs={"backend": "aot_eager", "fullgraph": True},
    ).run()
    return [parameter.detach() for parameter in network.parameters()]


def test_a_trainer_that_compiles_learns_the_same() -> None:
    for plain, compiled in zip(train(False), train(True), strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-5, atol=1e-5)


def test_a_compiled_network_is_validated_with_the_weights_of_the_moment_and_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.ReLU(inplace=True)).eval()
    compiled, x = torch.compile(network, backend="eager"), torch.randn(1, 1, 6, 6, 6)
    inferer = FastInferer(SimpleInferer(), "float32", fuse=True)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(inferer(x, compiled), network(x))
            network[0].weight.mul_(2)
    assert type(network[1]) is nn.BatchNorm3d


@pytest.mark.filterwarnings("ignore")
def test_layers_that_learn_can_be_written_as_onnx(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    network, x, path = ours(), volumes(), tmp_path / "layers.onnx"
    torch.onnx.export(network, (x,), path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(path)
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(result), network(x).detach(), rtol=1e-4, atol=1e-5)
