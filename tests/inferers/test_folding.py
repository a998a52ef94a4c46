from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from med3d_components.inferers import FoldedInferer


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
def test_the_network_runs_folded_with_channels_last_and_the_same_result() -> None:
    look, original = Look(), network()
    assert torch.allclose(FoldedInferer(look)(IMAGE, original), original(IMAGE), atol=1e-6)
    assert isinstance(look.network[1], nn.Identity)
    assert look.network[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert isinstance(original[1], nn.BatchNorm3d)


@torch.no_grad()
def test_weights_that_change_after_the_first_call_are_those_of_the_second() -> None:
    inferer, original = FoldedInferer(SimpleInferer()), network()
    inferer(IMAGE, original)
    original[1].running_mean.fill_(-3)
    assert torch.allclose(inferer(IMAGE, original), original(IMAGE), atol=1e-6)


@pytest.mark.parametrize("kind", ["script", "function", "training", "switched off"])
def test_what_cannot_be_folded_runs_as_it_is(kind: str) -> None:
    given = network()
    if kind == "script":
        given = torch.jit.script(given)
    elif kind == "function":
        given = torch.neg
    elif kind == "training":
        given.train()
    look = Look()
    FoldedInferer(look, fold="false" if kind == "switched off" else True)(IMAGE, given)
    assert look.network is given


def test_a_wrong_flag_is_an_error() -> None:
    with pytest.raises(ValueError, match="fold is 'yes', but must be true or false"):
        FoldedInferer(SimpleInferer(), "yes")
