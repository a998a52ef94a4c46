from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from med3d_components.networks import (
    ARCHITECTURES,
    CascadeNet,
    GenesisClassificationNet,
    GenesisSegmentationNet,
    GenesisUNet,
    Med3DClassificationNet,
    Med3DNet,
    Med3DRestorationNet,
    Med3DSegmentationNet,
    classification_net,
    coarse_net,
    restoration_net,
    segmentation_net,
)

RESNET: dict[str, Any] = {
    "depth": 10,
    "shortcut_type": None,
    "dilations": (2, 4),
    "preactivation": False,
    "frozen_stages": [],
}
WIDTHS = ((16, 8), (8, 8), (8, 4))
BUILD: dict[str, Callable[..., Any]] = {
    "segmentation": lambda architecture, **more: segmentation_net(architecture, 3, widths=WIDTHS, **RESNET | more),
    "classification": lambda architecture, **more: classification_net(architecture, 3, 0.5, **RESNET | more),
    "coarse": lambda architecture, **more: coarse_net({"liver": 2}, architecture, **RESNET | more),
    "restoration": lambda architecture, **more: restoration_net(architecture, widths=WIDTHS, **RESNET | more),
}
EXPECTED: dict[str, Any] = {
    "segmentation": (Med3DSegmentationNet, GenesisSegmentationNet, (2, 3, 16, 24, 16)),
    "classification": (Med3DClassificationNet, GenesisClassificationNet, (2, 3)),
    "coarse": (Med3DNet, GenesisSegmentationNet, (2, 2, 16, 24, 16)),
    "restoration": (Med3DRestorationNet, GenesisUNet, (2, 1, 16, 24, 16)),
}


def meta(build, architecture, **more):
    with torch.device("meta"):
        return build(architecture, **more)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("task", BUILD)
def test_each_architecture_has_a_network_for_each_task(task, architecture) -> None:
    network = meta(BUILD[task], architecture)
    resnet, genesis, shape = EXPECTED[task]
    assert type(network) is (resnet if architecture == "resnet" else genesis)
    assert network(torch.zeros(2, 1, 16, 24, 16, device="meta")).shape == shape
    assert network.encoder.settings["architecture"] == architecture


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("task", BUILD)
def test_a_network_can_be_built_again_from_the_settings_of_its_encoder(task, architecture) -> None:
    settings = dict(meta(BUILD[task], architecture, depth=18).encoder.settings)
    again = meta(BUILD[task], **settings)
    assert dict(again.encoder.settings) == settings


def test_what_a_config_says_of_the_network_arrives() -> None:
    with torch.device("meta"):
        network = BUILD["segmentation"]("resnet", depth=18, dilations=(2, 2))
        assert (network.encoder.settings["depth"], network.encoder.settings["dilations"]) == (18, [2, 2])
        assert BUILD["classification"]("resnet").dropout.p == BUILD["classification"]("genesis").dropout.p == 0.5
        assert BUILD["segmentation"]("resnet").classifier.in_channels == 4
        assert BUILD["coarse"]("resnet").domains == ["liver"]


@pytest.mark.parametrize("task", BUILD)
def test_an_unknown_architecture_is_refused_with_those_that_exist(task) -> None:
    with pytest.raises(ValueError, match=r"architecture is 'u-net', but must be one of resnet, genesis\.$"):
        meta(BUILD[task], "u-net")


@pytest.mark.parametrize("task", BUILD)
def test_freezing_stages_that_the_u_net_does_not_have_is_refused(task) -> None:
    with pytest.raises(ValueError, match=r"frozen_stages is \['stem'\], but these are stages of the ResNet"):
        meta(BUILD[task], "genesis", frozen_stages=["stem"])


@pytest.mark.parametrize("domains", [{}, {"liver": 2, "spleen": 2}])
def test_a_coarse_network_has_exactly_one_domain(domains) -> None:
    with pytest.raises(ValueError, match="must have exactly one domain"):
        coarse_net(domains, "genesis")


def test_configs_can_name_the_functions() -> None:
    config = {
        "architecture": "genesis",
        "network_def": {
            "_target_": "med3d_components.networks.segmentation_net",
            "architecture": "@architecture",
            "num_classes": 2,
            "depth": 50,
        },
        "depth": "$@network_def.encoder.settings['depth']",
    }
    parser = ConfigParser(config)
    assert isinstance(parser.get_parsed_content("network_def"), GenesisSegmentationNet)
    assert parser.get_parsed_content("depth") is None


def test_a_cascade_takes_a_coarse_u_net_and_exports_it(tmp_path) -> None:
    torch.manual_seed(0)
    settings = {"architecture": "genesis", "depth": 50, "shortcut_type": None, "dilations": [2, 4]}
    fine = {"depth": 10, "region": (32, 32, 32), "bottleneck_channels": 8, "growth_channels": 4}
    trained = GenesisSegmentationNet(2).eval()
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    network = CascadeNet({"num_classes": {"liver": 2}, **settings}, tmp_path / "model.pt", **fine).train()
    assert not any(module.training for module in network.coarse.modules())
    assert not any(p.requires_grad for p in network.coarse.parameters())
    x = torch.rand(1, 1, 9, 8, 8)
    with torch.no_grad():
        assert torch.equal(network.locate(x), trained(x))
        torch.testing.assert_close(torch.jit.script(network.eval()).locate(x), trained(x))
