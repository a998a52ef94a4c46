from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from med3d_components.networks import (
    ARCHITECTURES,
    GenesisClassificationNet,
    GenesisSegmentationNet,
    GenesisUNet,
    Med3DClassificationNet,
    Med3DNet,
    Med3DRestorationNet,
    Med3DSegmentationNet,
    build_network,
)

RESNET = {"depth": 10, "shortcut_type": None, "dilations": (2, 4), "preactivation": False}
WIDTHS = ((16, 8), (8, 8), (8, 4))
SETTINGS = {
    "segmentation": {"num_classes": 3, "widths": WIDTHS},
    "classification": {"num_classes": 3},
    "coarse": {"num_classes": {"liver": 2}},
    "restoration": {"widths": WIDTHS},
}
EXPECTED: dict[str, Any] = {
    "segmentation": (Med3DSegmentationNet, GenesisSegmentationNet, (2, 3, 16, 24, 16)),
    "classification": (Med3DClassificationNet, GenesisClassificationNet, (2, 3)),
    "coarse": (Med3DNet, GenesisSegmentationNet, (2, 2, 16, 24, 16)),
    "restoration": (Med3DRestorationNet, GenesisUNet, (2, 1, 16, 24, 16)),
}


def meta(task, architecture, **more):
    """Build a network without memory."""
    training = {name: more.pop(name) for name in ("frozen_stages", "dropout") if name in more}
    with torch.device("meta"):
        settings = {"task": task, "architecture": architecture, **RESNET, **SETTINGS[task], **more}
        return build_network(settings, **training)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("task", SETTINGS)
def test_each_architecture_has_a_network_for_each_task(task, architecture) -> None:
    network = meta(task, architecture)
    resnet, genesis, shape = EXPECTED[task]
    assert type(network) is (resnet if architecture == "resnet" else genesis)
    assert network(torch.zeros(2, 1, 16, 24, 16, device="meta")).shape == shape
    assert network.encoder.settings["architecture"] == architecture
    assert not network.training


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("task", SETTINGS)
def test_a_network_can_be_built_again_from_its_settings(task, architecture) -> None:
    settings = json.loads(json.dumps(meta(task, architecture, depth=18).settings))
    with torch.device("meta"):
        again = build_network(settings)
    assert json.loads(json.dumps(again.settings)) == settings


def test_what_a_config_says_of_the_network_arrives() -> None:
    network = meta("segmentation", "resnet", depth=18, dilations=(2, 2))
    assert (network.encoder.settings["depth"], network.encoder.settings["dilations"]) == (18, [2, 2])
    for architecture in ARCHITECTURES:
        assert meta("classification", architecture, dropout=0.5).dropout.p == 0.5
    assert meta("segmentation", "resnet").classifier.in_channels == 4
    assert meta("coarse", "resnet").domains == ["liver"]


@pytest.mark.parametrize("task", SETTINGS)
def test_an_unknown_architecture_is_refused_with_those_that_exist(task) -> None:
    with pytest.raises(ValueError, match=r"architecture is 'u-net', but must be one of resnet, genesis\.$"):
        meta(task, "u-net")


def test_an_unknown_task_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="task is 'painting', but must be one of domains, segmentation"):
        build_network({"task": "painting"})


@pytest.mark.parametrize("task", SETTINGS)
def test_freezing_stages_that_the_u_net_does_not_have_is_refused(task) -> None:
    with pytest.raises(ValueError, match=r"frozen_stages is \['stem'\], but these are stages of the ResNet"):
        meta(task, "genesis", frozen_stages=["stem"])


@pytest.mark.parametrize("domains", [{}, {"liver": 2, "spleen": 2}])
def test_a_coarse_network_has_exactly_one_domain(domains) -> None:
    with pytest.raises(ValueError, match="must have exactly one domain"):
        build_network({"task": "coarse", "num_classes": domains, "architecture": "genesis"})


def test_a_cascade_takes_a_coarse_u_net_and_exports_it(tmp_path) -> None:
    torch.manual_seed(0)
    settings = {"architecture": "genesis", "depth": 50, "shortcut_type": None, "dilations": [2, 4]}
    fine = {"depth": 10, "roi_size": (32, 32, 32), "bottleneck_channels": 8, "growth_channels": 4}
    trained = GenesisSegmentationNet(2).eval()
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    coarse = {"task": "coarse", "num_classes": {"liver": 2}, **settings}
    cascade = {"task": "cascade", "num_classes": 2, "coarse": coarse, **fine}
    network = build_network(cascade, coarse_checkpoint=tmp_path / "model.pt").train()
    assert not any(module.training for module in network.coarse.modules())
    assert not any(p.requires_grad for p in network.coarse.parameters())
    x = torch.rand(1, 1, 9, 8, 8)
    with torch.no_grad():
        assert torch.equal(network.locate(x), trained(x))
        torch.testing.assert_close(torch.jit.script(network.eval()).locate(x), trained(x))
