from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from med3d_components.networks.resnet import DEPTHS, DilatedResNet, ShortcutA
from tests.networks.parity import GOLDEN, fill, wave


def meta_network(**arguments):
    with torch.device("meta"):
        return DilatedResNet(**arguments)


@pytest.mark.parametrize("net", GOLDEN["nets"])
def test_outputs_equal_those_of_the_published_encoder(net):
    expected = GOLDEN["nets"][net]
    depth, shortcut_type = net.removeprefix("resnet").split("_")
    network = meta_network(depth=int(depth), shortcut_type=shortcut_type)
    assert len(network.state_dict()) == expected["entries"]
    assert sum(p.numel() for p in network.parameters()) == expected["parameters"]

    with torch.no_grad():
        stem, *layers = fill(network)(wave("input", (1, 1, 24, 32, 40)))
        maps = {"stem": network.maxpool(stem)} | {f"layer{i}": x for i, x in enumerate(layers, 1)}
    for name, stage in expected["stages"].items():
        assert list(maps[name].shape) == stage["shape"]
        assert maps[name].mean().item() == pytest.approx(stage["mean"], rel=1e-6)
        assert maps[name].std().item() == pytest.approx(stage["std"], rel=1e-6)
        values = maps[name].flatten()[stage["index"]].tolist()
        assert values == pytest.approx(stage["value"], rel=1e-6)


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_depth_has_output_stride_8_and_the_widths_it_states(depth):
    network = meta_network(depth=depth)
    maps = network(torch.zeros(1, 1, 32, 48, 64, device="meta"))
    sizes = [(16, 24, 32), (8, 12, 16), (4, 6, 8), (4, 6, 8), (4, 6, 8)]
    assert [tuple(x.shape) for x in maps] == [(1, c, *s) for c, s in zip(network.channels, sizes, strict=True)]
    assert network.channels[-1] == (512 if depth < 50 else 2048)
    assert network.output_stride == (8, 8, 8)


@pytest.mark.parametrize(("depth", "shortcut_type"), [(10, "B"), (18, "A"), (34, "A"), (50, "B"), (200, "B")])
def test_the_default_shortcut_is_the_one_of_the_released_weights(depth, shortcut_type):
    network = meta_network(depth=depth)
    assert network.settings["shortcut_type"] == shortcut_type
    assert any("downsample" in name for name in network.state_dict()) == (shortcut_type == "B")


def test_names_are_those_of_medicalnet():
    names = set(meta_network(depth=50).state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.downsample.0.weight", "layer3.5.conv3.weight"} <= names
    assert "layer1.0.downsample.0.bias" not in names
    assert {name.split(".")[0] for name in names} == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}


def plain_shortcut(x, channels, stride):
    """Shortcut A, written with a strided slice and a concatenation."""
    x = x[:, :, ::stride, ::stride, ::stride]
    zeros = x.new_zeros(x.shape[0], channels - x.shape[1], *x.shape[2:])
    return torch.cat([x, zeros], dim=1)


@pytest.mark.parametrize("stride", [1, 2])
def test_shortcut_a_passes_the_gradient_of_its_plain_restatement(stride):
    x = wave("x", (2, 3, 5, 6, 7)).requires_grad_()
    weight = wave("w", (2, 8, *(-(-size // stride) for size in (5, 6, 7))))
    out, plain = ShortcutA(8, (stride, stride, stride))(x), plain_shortcut(x, 8, stride)
    assert torch.equal(out, plain)
    (gradient,) = torch.autograd.grad((out * weight).sum(), x)
    assert torch.equal(gradient, torch.autograd.grad((plain * weight).sum(), x)[0])
    assert gradient.abs().sum() > 0


def test_gradient_flows_through_shortcut_a_of_a_whole_network():
    network = DilatedResNet(depth=18).eval()
    for name, parameter in network.named_parameters():
        if ".bn2." in name:  # silence the residual path: the shortcuts alone carry the signal
            torch.nn.init.zeros_(parameter)
    network(torch.rand(1, 1, 16, 16, 16))[-1].sum().backward()
    assert network.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("depth", [10, 18])
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_torchscript_gives_the_same_maps(depth):
    network = DilatedResNet(depth).eval()
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        for expected, actual in zip(network(x), torch.jit.script(network)(x), strict=True):
            torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("dilations", [(2, 4), (2, 2), (1, 1)])
def test_dilations_reach_every_3x3x3_convolution_of_the_last_two_stages(dilations):
    network = meta_network(depth=50, dilations=dilations)
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    for stage, dilation in zip(stages, (1, 1, *dilations), strict=True):
        convolutions = [m for m in stage.modules() if isinstance(m, torch.nn.Conv3d)]
        assert {m.dilation[0] for m in convolutions if m.kernel_size[0] == 3} == {dilation}
        assert {m.dilation[0] for m in convolutions if m.kernel_size[0] == 1} == {1}
    assert network.settings["dilations"] == list(dilations)


def test_dilations_change_the_function_but_not_the_parameters():
    a, b = DilatedResNet(10).eval(), DilatedResNet(10, dilations=(2, 2)).eval()
    b.load_state_dict(a.state_dict())
    x = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        first, second = a(x), b(x)
    assert torch.equal(first[3], second[3])
    assert not torch.allclose(first[4], second[4])


def test_in_channels_set_the_stem():
    assert meta_network(depth=10, in_channels=4).conv1.weight.shape == (64, 4, 7, 7, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 20}, "depth is 20, but must be one of 10, 18, 34, 50, 101, 152, 200"),
        ({"depth": 10, "shortcut_type": "C"}, "shortcut_type is 'C', but must be 'A' or 'B'"),
        ({"depth": 10, "dilations": (2,)}, "two positive integers"),
        ({"depth": 10, "dilations": (0, 2)}, "two positive integers"),
        ({"depth": 50, "preactivation": True}, "preactivation needs depth 200"),
    ],
)
def test_a_network_that_does_not_exist_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DilatedResNet(**arguments)


@pytest.fixture(scope="module")
def preactivation():
    """The pre-activation network with 2 instead of up to 36 blocks per stage, which costs a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DEPTHS, 200, DEPTHS[200]._replace(blocks=(2, 2, 2, 2)))
        return fill(meta_network(depth=200, preactivation=True))


def plain_preactivation(state, x):
    """The same network with functions alone."""

    def norm(x, name):
        names = ("running_mean", "running_var", "weight", "bias")
        return F.relu(F.batch_norm(x, *(state[f"{name}.{n}"] for n in names)))

    x = norm(F.conv3d(x, state["conv1.weight"], stride=2, padding=3), "bn1")
    maps = [x]
    x = F.max_pool3d(x, 3, 2, 1)
    for stage, (stride, d) in enumerate([(1, 1), (2, 1), (1, 2), (1, 4)], 1):
        for i in range(2):
            name, stride = f"layer{stage}.{i}", stride if i == 0 else 1
            out = F.conv3d(norm(x, f"{name}.bn1"), state[f"{name}.conv1.weight"])
            out = F.conv3d(
                norm(out, f"{name}.bn2"), state[f"{name}.conv2.weight"], stride=stride, padding=d, dilation=d
            )
            out = F.conv3d(norm(out, f"{name}.bn3"), state[f"{name}.conv3.weight"])
            x = out + (F.conv3d(x, state[f"{name}.downsample.weight"], stride=stride) if i == 0 else x)
        maps.append(x)
    return [*maps[:-1], norm(maps[-1], "final.0")]


def test_preactivation_network_equals_its_plain_restatement(preactivation):
    x = wave("input", (1, 1, 32, 40, 48))
    with torch.no_grad():
        maps = preactivation(x)
        for actual, expected in zip(maps, plain_preactivation(preactivation.state_dict(), x), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    assert [x.shape[1] for x in maps] == [64, 256, 512, 1024, 2048]
    assert [tuple(x.shape[2:]) for x in maps] == [(16, 20, 24), (8, 10, 12), (4, 5, 6), (4, 5, 6), (4, 5, 6)]


def test_preactivation_network_has_the_blocks_of_depth_200_and_names_of_its_own():
    network = meta_network(depth=200, preactivation=True)
    assert [len(stage) for stage in (network.layer1, network.layer2, network.layer3, network.layer4)] == [3, 24, 36, 3]
    state = network.state_dict()
    assert {"layer1.0.downsample.weight", "final.0.weight", "final.0.running_var"} <= set(state)
    assert state["layer1.1.bn1.weight"].shape == (256,)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_torchscript_gives_the_same_maps_of_the_preactivation_network(preactivation):
    x = wave("x", (1, 1, 16, 16, 16))
    with torch.no_grad():
        for expected, actual in zip(preactivation(x), torch.jit.script(preactivation)(x), strict=True):
            torch.testing.assert_close(actual, expected)


def test_gradient_reaches_every_parameter_of_the_preactivation_network(preactivation):
    preactivation(wave("input", (1, 1, 16, 16, 16)))[-1].log1p().mean().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in preactivation.parameters())
