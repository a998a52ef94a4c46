from __future__ import annotations

import pytest
import torch
from torch import nn

from med3d_components.inferers import fuse_batch_norm
from med3d_components.networks import (
    CascadeNet,
    GenesisClassificationNet,
    GenesisSegmentationNet,
    GenesisUNet,
    Med3DClassificationNet,
    Med3DDenseASPPNet,
    Med3DNet,
    Med3DRestorationNet,
    Med3DSegmentationNet,
)

DENSE_ASPP = {"depth": 10, "roi_size": (64, 64, 64), "bottleneck_channels": 16, "growth_channels": 8}
COARSE = {"num_classes": {"liver": 2}, "depth": 10}

# Each network, and how many BatchNorms have no convolution directly before them.
NETWORKS = {
    "Med3DNet": (lambda: Med3DNet({"a": 2, "b": 3}, depth=10), 0),
    "shortcut A": (lambda: Med3DNet({"a": 2}, depth=18, shortcut_type="A"), 0),
    "bottlenecks": (lambda: Med3DNet({"a": 2}, depth=50), 0),
    # The first norm of each of the 66 blocks, and the last one of all.
    "pre-activation": (lambda: Med3DNet({"a": 2}, depth=200, preactivation=True), 67),
    "Med3DSegmentationNet": (lambda: Med3DSegmentationNet(2, depth=10), 0),
    "Med3DClassificationNet": (lambda: Med3DClassificationNet(2, depth=10), 0),
    "Med3DRestorationNet": (lambda: Med3DRestorationNet(depth=10), 0),
    # The first norm of each of the five blocks.
    "Med3DDenseASPPNet": (lambda: Med3DDenseASPPNet(**DENSE_ASPP), 5),
    "CascadeNet": (lambda: CascadeNet(lambda: Med3DNet(**COARSE), **DENSE_ASPP), 5),
    "GenesisUNet": (GenesisUNet, 0),
    "GenesisUNet of batch statistics": (lambda: GenesisUNet(batch_statistics=True), 14),
    "GenesisSegmentationNet": (lambda: GenesisSegmentationNet(2), 0),
    "GenesisClassificationNet": (lambda: GenesisClassificationNet(2), 0),
}


def with_statistics(network: nn.Module) -> nn.Module:
    """Give the BatchNorms of a network factors and statistics other than 1 and 0."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm3d):
            for tensor, low, high in ((norm.weight, 0.8, 1.2), (norm.bias, -0.2, 0.2)):
                nn.init.uniform_(tensor, low, high)
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.8, 1.2)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_fused_network_computes_the_same_and_the_original_stays(name: str) -> None:
    torch.manual_seed(0)
    make, remaining = NETWORKS[name]
    network = with_statistics(make())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fused = fuse_batch_norm(network)
    assert sum(isinstance(module, nn.BatchNorm3d) for module in fused.modules()) == remaining
    image = torch.randn(1, 1, 24, 17, 16)
    for call in ("forward", "locate"):
        if hasattr(network, call):
            expected, found = (getattr(part, call)(image) for part in (network, fused))
            assert float((found - expected).abs().max()) <= 1e-5 * max(1, float(expected.abs().max()))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_network_in_training_is_not_fused() -> None:
    with pytest.raises(ValueError, match=r"in training mode, where BatchNorm cannot be fused; call its eval\(\)"):
        fuse_batch_norm(Med3DNet({"a": 2}, depth=10))
