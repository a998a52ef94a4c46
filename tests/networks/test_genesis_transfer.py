from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from med3d_components.networks import GenesisClassificationNet, GenesisSegmentationNet


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_a_segmentation_is_as_large_as_its_input_and_linear_in_the_features() -> None:
    network = GenesisSegmentationNet(num_classes=3).eval()
    x = torch.rand(2, 1, 17, 8, 9)
    with torch.no_grad():
        logits = network(x)
        expected = torch.einsum("bchwd,nc->bnhwd", network.encoder(x), network.classifier.weight.flatten(1))
    assert logits.shape == (2, 3, 17, 8, 9)
    torch.testing.assert_close(logits, expected + network.classifier.bias.view(1, 3, 1, 1, 1))


def test_a_classification_is_two_linear_layers_on_the_mean_of_the_deepest_map() -> None:
    network = GenesisClassificationNet(num_classes=3).eval()
    x = torch.rand(2, 1, 17, 8, 9)
    with torch.no_grad():
        pooled = network.encoder(x)[-1].flatten(2).mean(2)
        hidden = F.relu(pooled @ network.hidden.weight.T + network.hidden.bias)
        expected = hidden @ network.classifier.weight.T + network.classifier.bias
        torch.testing.assert_close(network(x), expected)
    assert (pooled.shape, hidden.shape, expected.shape) == ((2, 512), (2, 1024), (2, 3))


def test_dropout_acts_in_training_alone() -> None:
    network = GenesisClassificationNet(num_classes=2, dropout=1.0)
    x = torch.rand(2, 1, 8, 16, 8)
    with torch.no_grad():
        assert torch.equal(network.train()(x), network.classifier.bias.expand(2, 2))
        assert not torch.allclose(network.eval()(x), network.classifier.bias)


@pytest.mark.parametrize("build", [GenesisSegmentationNet, GenesisClassificationNet])
def test_the_networks_can_be_scripted_and_every_weight_learns(build) -> None:
    network = build(2).train()
    x = torch.rand(2, 1, 9, 8, 8)
    network(x)[:, 0].square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network.eval())(x), network(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (GenesisSegmentationNet, "num_classes is 1, but must be 2 or more, background included"),
        (GenesisClassificationNet, "num_classes is 1, but must be 2 or more"),
    ],
)
def test_one_class_is_refused(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(1)
