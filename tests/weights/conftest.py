"""Networks and files of weights that cost no time to make."""

from __future__ import annotations

from zlib import crc32

import pytest
import torch

from med3d_components.networks import DilatedResNet, Med3DNet


def blank(build):
    """Return a network of zeros; a random initialisation would take most of these tests' time."""
    with torch.device("meta"):
        network = build()
    network.load_state_dict(
        {name: torch.zeros_like(x, device="cpu") for name, x in network.state_dict().items()}, assign=True
    )
    return network


def resnet(*arguments, **more):
    return blank(lambda: DilatedResNet(*arguments, **more))


def med3d(num_classes, depth=10):
    return blank(lambda: Med3DNet(num_classes, depth))


def random_state(network, seed=1):
    """Return weights and statistics that no fresh network has."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(x.shape, generator=generator) * 0.1 + 0.01 if x.is_floating_point() else x + 7
        for name, x in network.state_dict().items()
    }


def constant_state(shapes):
    """Return a synthetic state_dict of real names and shapes; one number per entry keeps the file small."""
    return {name: torch.tensor(crc32(name.encode()) % 97 / 97).expand(shape) for name, shape in shapes.items()}


def save(content, path):
    torch.save(content, path)
    return str(path)


def prefixed(state, prefix):
    return {f"{prefix}{name}": x for name, x in state.items()}


def assert_unchanged(network, before):
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())


def copy_of(network):
    return {name: x.clone() for name, x in network.state_dict().items()}


@pytest.fixture(scope="module")
def teacher():
    """A ResNet-10 whose weights the tests save."""
    network = resnet(10).eval()
    network.load_state_dict(random_state(network))
    return network


@pytest.fixture
def student():
    return resnet(10).eval()
