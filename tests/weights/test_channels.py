"""Weights of one channel in a network of several, and those of several in their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from med3d_components.networks import build_network
from med3d_components.weights import load_checkpoint, load_encoder

ARCHITECTURES = {
    "resnet": ({"task": "segmentation", "num_classes": 2, "depth": 10, "widths": [[8, 8]] * 3}, "conv1"),
    "genesis": ({"task": "segmentation", "num_classes": 2, "architecture": "genesis"}, "down_tr64.ops.0.conv1"),
}


def build(architecture: str, in_channels: int) -> tuple[Any, nn.Conv3d]:
    """Return a network and its first convolution."""
    settings, stem = ARCHITECTURES[architecture]
    network: Any = build_network({**settings, "in_channels": in_channels})
    return network, network.encoder.get_submodule(stem)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("in_channels", [2, 4])
def test_equal_channels_give_the_activations_of_the_one_that_the_weights_know(
    architecture: str, in_channels: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    one, stem = build(architecture, 1)
    torch.save(one.encoder.state_dict(), tmp_path / "encoder.pt")
    several, wide = build(architecture, in_channels)
    report = load_encoder(several, str(tmp_path / "encoder.pt"))
    name = f"{ARCHITECTURES[architecture][1]}.weight"
    assert report.adapted == (f"{name}: 1 channel repeated over {in_channels}, divided by {in_channels}",)
    assert (report.share, report.missing, report.unexpected) == (1, (), ())

    image = torch.rand(1, 1, 20, 17, 18)
    repeated = image.expand(-1, in_channels, -1, -1, -1)
    with torch.no_grad():
        known = F.conv3d(image, stem.weight, stem.bias, stem.stride, stem.padding)
        torch.testing.assert_close(wide(repeated), known)
        ours, theirs = several.encoder(repeated), one.encoder(image)
        torch.testing.assert_close(
            ours[-1] if isinstance(ours, list) else ours, theirs[-1] if isinstance(theirs, list) else theirs
        )
        assert not torch.allclose(wide(repeated * torch.arange(in_channels).reshape(1, -1, 1, 1, 1)), known)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_checkpoint_of_several_channels_loads_exactly_and_in_no_other_network(
    architecture: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    trained, stem = build(architecture, 3)
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    torch.save(trained.encoder.state_dict(), tmp_path / "encoder.pt")
    assert trained.settings["in_channels"] == 3
    again = build_network(trained.settings)
    assert load_checkpoint(again, tmp_path / "model.pt").share == 1
    assert all(torch.equal(x, trained.state_dict()[name]) for name, x in again.state_dict().items())
    encoder, own = build(architecture, 3)
    assert load_encoder(encoder, str(tmp_path / "encoder.pt")).adapted == ()
    assert torch.equal(own.weight, stem.weight)

    line = r"unchanged: the file has in_channels 3, but the network 2: build it with in_channels=3\.$"
    with pytest.raises(ValueError, match=line):
        load_checkpoint(build(architecture, 2)[0], tmp_path / "model.pt")


def test_both_networks_of_a_cascade_see_the_same_channels() -> None:
    coarse = {"task": "coarse", "num_classes": {"liver": 2}, "depth": 10}
    fine = {"task": "cascade", "num_classes": 2, "depth": 10, "roi_size": (32, 32, 32), "rates": [1]}
    network: Any = build_network({**fine, "in_channels": 2, "coarse": {**coarse, "in_channels": 2}})
    settings = network.settings
    assert (settings["in_channels"], settings["coarse"]["in_channels"]) == (2, 2)
    for architecture in ("resnet", "genesis"):
        with pytest.raises(
            ValueError, match=r"coarse network has in_channels 1 and the fine one 2.* --in_channels 1, or"
        ):
            build_network({**fine, "in_channels": 2, "coarse": {**coarse, "architecture": architecture}})
