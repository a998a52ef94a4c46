from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch

from med3d_components.networks import CascadeNet, Med3DDenseASPPNet, Med3DNet, build_network
from med3d_components.weights import load_checkpoint, load_encoder

COARSE = {"num_classes": {"liver": 2}, "depth": 10}
FINE = {"depth": 10, "roi_size": (32, 32, 32), "bottleneck_channels": 8, "growth_channels": 4}


@pytest.fixture
def network() -> CascadeNet:
    torch.manual_seed(0)
    return CascadeNet(partial(Med3DNet, **COARSE), **FINE)


def states(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_the_stages_are_the_networks_that_they_are_made_of(network) -> None:
    coarse, fine = Med3DNet(**COARSE), Med3DDenseASPPNet(**FINE)
    coarse.load_state_dict(network.coarse.state_dict())
    fine.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("coarse.")})
    x = torch.rand(1, 1, 17, 24, 30)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), fine.eval()(x))
        assert torch.equal(network.locate(x), coarse.eval()(x))
    assert network.locate(x).shape == (1, 2, 17, 24, 30)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_coarse_stage_never_learns_and_the_fine_one_does(checkpointing) -> None:
    network = CascadeNet(partial(Med3DNet, **COARSE), **FINE, checkpointing=checkpointing).train()
    before = states(network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2, weight_decay=1e-2)
    x = torch.rand(2, 1, 16, 16, 16)
    assert not network.locate(x).requires_grad
    network(x).square().mean().backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("coarse.") for name in changed)
    assert {"encoder.conv1.weight", "encoder.bn1.running_mean", "aspp.blocks.4.5.weight", "classifier.bias"} <= changed


def test_only_the_fine_stage_has_a_training_mode(network) -> None:
    assert not any(module.training for module in network.coarse.modules())  # as built
    assert network.train() is network
    assert network.training
    assert network.aspp.training
    assert not any(module.training for module in network.coarse.modules())
    assert not network.eval().training


def test_a_torchscript_file_has_both_stages(network, tmp_path) -> None:
    torch.jit.script(network.eval()).save(tmp_path / "model.ts")
    loaded = torch.jit.load(tmp_path / "model.ts")
    x = torch.rand(1, 1, 19, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network(x))
        torch.testing.assert_close(loaded.locate(x), network.locate(x))


def test_one_checkpoint_has_both_stages(network, tmp_path) -> None:
    torch.save(network.state_dict(), tmp_path / "model.pt")
    other = CascadeNet(partial(Med3DNet, **COARSE), **FINE)
    load_checkpoint(other, tmp_path / "model.pt")
    assert all(map(torch.equal, other.state_dict().values(), network.state_dict().values()))
    with pytest.raises(ValueError, match="coarse"):
        load_checkpoint(Med3DDenseASPPNet(**FINE), tmp_path / "model.pt")


def test_an_encoder_is_loaded_into_the_fine_stage_alone(network, tmp_path) -> None:
    source = CascadeNet(partial(Med3DNet, **COARSE), **FINE)
    torch.save(source.state_dict(), tmp_path / "model.pt")
    before = states(network.coarse)
    load_encoder(network, str(tmp_path / "model.pt"))
    assert all(map(torch.equal, network.encoder.parameters(), source.encoder.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in network.coarse.state_dict().items())


def test_the_coarse_stage_is_loaded_from_the_checkpoint_of_its_own_training(network, tmp_path) -> None:
    source = Med3DNet(**COARSE).train()
    source(torch.rand(2, 1, 16, 16, 16))  # statistics of its own
    torch.save(source.state_dict(), tmp_path / "model.pt")
    before = states(network.encoder)
    report = network.load_coarse(tmp_path / "model.pt")
    assert report.share == 1
    assert all(map(torch.equal, network.coarse.state_dict().values(), source.state_dict().values()))
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())
    assert not any(p.requires_grad for p in network.coarse.parameters())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"num_classes": {"spleen": 2}, "depth": 10}, "the file has no branch for liver"),
        ({"num_classes": {"liver": 2}, "depth": 18}, "ResNet-18"),
    ],
)
def test_a_coarse_checkpoint_that_does_not_fit_is_refused(network, other, message, tmp_path) -> None:
    torch.save(Med3DNet(**other).state_dict(), tmp_path / "model.pt")
    before = states(network)
    with pytest.raises(ValueError, match=message):
        network.load_coarse(tmp_path / "model.pt")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        network.load_coarse(tmp_path / "none.pt")


@pytest.mark.parametrize("domains", [{}, {"liver": 2, "spleen": 2}])
def test_a_coarse_stage_has_exactly_one_domain(domains) -> None:
    with pytest.raises(ValueError, match="must have exactly one domain"):
        build_network({"task": "cascade", "coarse": {"task": "coarse", "num_classes": domains, "depth": 10}, **FINE})


def test_coarse_arguments_reach_the_coarse_stage_alone() -> None:
    with torch.device("meta"):
        coarse = {"task": "coarse", **COARSE, "depth": 18, "shortcut_type": "B", "dilations": (2, 2)}
        network = build_network({"task": "cascade", "coarse": coarse, **FINE})
    assert network.coarse.encoder.settings["shortcut_type"] == "B"
    assert (network.coarse.encoder.settings["depth"], network.encoder.settings["depth"]) == (18, 10)
    assert (network.coarse.encoder.settings["dilations"], network.encoder.settings["dilations"]) == ([2, 2], [2, 4])


@pytest.mark.slow
def test_weights_can_be_imported_before_the_networks_that_load_them() -> None:
    subprocess.run([sys.executable, "-c", "import med3d_components.weights"], check=True)
