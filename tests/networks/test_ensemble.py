from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from med3d_components.inferers import fuse_batch_norm
from med3d_components.networks import CascadeEnsembleNet, EnsembleNet, build_network

SMALL = {"depth": 10, "num_classes": 3}
COARSE = {"task": "coarse", "depth": 10, "num_classes": {"liver": 2}}
SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {"task": "segmentation", **SMALL, "widths": [[8, 8], [8, 4], [4, 4]]},
    "unet": {"task": "segmentation", **SMALL, "decoder": "unet", "deep_supervision": True},
    "genesis": {"task": "segmentation", "architecture": "genesis", "num_classes": 3},
    "classification": {"task": "classification", **SMALL},
    "coarse": COARSE,
    "cascade": {"task": "cascade", **SMALL, "coarse": COARSE, "roi_size": [32] * 3, "decoder": "unet"},
}
X = torch.rand(1, 1, 17, 24, 18)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    from med3d_components.networks import resnet

    monkeypatch.setattr(resnet, "WIDTHS", (4, 8, 12, 16))
    torch.manual_seed(0)


def build(kind: str, members: int = 2, **more: Any) -> Any:
    return build_network({**SETTINGS[kind], "members": members, **more})


@torch.no_grad()
def settle(network: torch.nn.Module) -> None:
    """Give the BatchNorms statistics of their own, so that fusing them changes the convolutions."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)


@pytest.mark.parametrize("kind", SETTINGS)
@torch.no_grad()
def test_an_ensemble_gives_the_logarithm_of_its_members_mean_probability(kind: str) -> None:
    network = build(kind, members=3)
    mean = torch.stack([member(X).softmax(1) for member in network.members]).mean(0)
    found = network(X)
    torch.testing.assert_close(found.exp(), mean)
    torch.testing.assert_close(found.softmax(1), mean)
    assert torch.equal(found.argmax(1), mean.argmax(1))


@pytest.mark.parametrize("kind", SETTINGS)
def test_an_ensemble_is_built_again_from_its_settings_and_its_weights_fit(kind: str) -> None:
    network = build(kind)
    settings = json.loads(json.dumps(network.settings))
    assert settings["members"] == 2
    again = build_network(settings)
    assert json.loads(json.dumps(again.settings)) == settings
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(X), network(X))


@pytest.mark.parametrize("kind", SETTINGS)
@torch.no_grad()
def test_the_torchscript_of_an_ensemble_gives_what_it_gives(kind: str) -> None:
    network = build(kind)
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(X), network(X), atol=1e-5, rtol=1e-4)
    if kind == "cascade":
        torch.testing.assert_close(scripted.locate(X), network.locate(X), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["paper", "cascade"])
@torch.no_grad()
def test_batch_norm_can_be_fused_in_all_members(kind: str) -> None:
    network = build(kind)
    settle(network)
    fused = fuse_batch_norm(network)
    assert sum(type(module) is torch.nn.BatchNorm3d for module in fused.members.modules()) < sum(
        type(module) is torch.nn.BatchNorm3d for module in network.members.modules()
    )
    torch.testing.assert_close(fused(X), network(X), atol=1e-4, rtol=1e-3)


def test_a_cascade_has_its_coarse_network_once() -> None:
    network = build("cascade", members=3)
    assert isinstance(network, CascadeEnsembleNet)
    assert sum(name.startswith("coarse.") for name in network.state_dict()) == len(network.coarse.state_dict())
    assert not any(".coarse." in name for name in network.state_dict())
    assert network.locate(X).shape == (1, 2, *X.shape[2:])
    assert network.encoder is network.members[0].encoder


def test_an_ensemble_of_coarse_networks_can_be_the_first_stage_of_a_cascade() -> None:
    single = build_network({**SETTINGS["cascade"], "coarse": {**COARSE, "members": 2}})
    again = build_network(json.loads(json.dumps(single.settings)))
    assert isinstance(again.coarse, EnsembleNet)
    again.load_state_dict(single.state_dict())


def test_probabilities_of_zero_and_one_give_no_nan_and_no_infinity() -> None:
    class Sure(torch.nn.Module):
        def __init__(self, size: float) -> None:
            super().__init__()
            self.size = size

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.size * x, -self.size * x], 1)

    x = torch.ones(1, 1, 2, 2, 2)
    found = EnsembleNet([Sure(1e5), Sure(-1e5)])(x)
    torch.testing.assert_close(found, torch.full_like(found, 0.5).log())
    assert torch.isfinite(EnsembleNet([Sure(1e5), Sure(1e5)])(x)).all()


def test_an_ensemble_does_not_learn() -> None:
    network = build("classification")
    assert not any(module.training for module in network.modules())
    assert network.eval() is network
    with pytest.raises(ValueError, match="This model is an ensemble, which does not learn"):
        network.train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "domains", "num_classes": {"a": 2}, "depth": 10, "members": 2}, "the task 'domains' has none"),
        ({**SETTINGS["classification"], "members": 0}, "members is 0, but must be the number of networks, 1 or more"),
        ({**SETTINGS["classification"], "members": "2"}, "members is '2', but must be the number of networks"),
    ],
)
def test_members_that_make_no_ensemble_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(settings)
