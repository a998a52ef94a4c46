from __future__ import annotations

import pytest
import torch

from med3d_components.networks import Med3DNet

DOMAINS = {"Task04_Hippocampus": 3, "Task09_Spleen": 2}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Med3DNet(DOMAINS, depth=10)


def test_only_the_asked_branch_gets_gradients(network):
    network(torch.rand(1, 1, 16, 16, 16), domain="Task09_Spleen").sum().backward()
    assert all(p.grad is not None for p in network.branches["Task09_Spleen"].parameters())
    assert all(p.grad is None for p in network.branches["Task04_Hippocampus"].parameters())
    assert all(p.grad is not None for p in network.encoder.parameters())


def test_the_default_domain_is_the_first_or_the_one_chosen():
    assert Med3DNet(DOMAINS, depth=10).default_domain == "Task04_Hippocampus"
    network = Med3DNet(DOMAINS, depth=10, default_domain="Task09_Spleen").eval()
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(x), network(x, domain="Task09_Spleen"))


@pytest.mark.parametrize(
    "domains",
    [
        {"Task09_Spleen": 2, "Task04_Hippocampus": 3},
        {"Task09_Spleen": 2},
        {"New": 5, "Task04_Hippocampus": 3, "Other": 2, "Task09_Spleen": 2},
    ],
    ids=["reordered", "dropped", "added"],
)
def test_branch_weights_survive_other_domains(network, domains):
    other = Med3DNet(domains, depth=10)
    common = {name: x for name, x in network.state_dict().items() if name in other.state_dict()}
    other.load_state_dict({**other.state_dict(), **common}, strict=True)
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        for domain in domains.keys() & DOMAINS.keys():
            assert torch.equal(other.eval()(x, domain=domain), network.eval()(x, domain=domain))


@pytest.mark.parametrize("size", [(17, 23, 31), (16, 24, 32), (9, 40, 11)])
def test_output_has_the_size_of_the_input_and_the_classes_of_the_domain(network, size):
    with torch.no_grad():
        assert network.eval()(torch.rand(2, 1, *size)).shape == (2, 3, *size)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_torchscript_gives_the_same_logits_with_and_without_a_domain(network):
    scripted = torch.jit.script(network.eval())
    x = torch.rand(1, 1, 17, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), network(x))
        torch.testing.assert_close(scripted(x, domain="Task09_Spleen"), network(x, domain="Task09_Spleen"))
        with pytest.raises(torch.jit.Error, match="There is no domain 'Task01'"):
            scripted(x, domain="Task01")


def test_an_unknown_domain_is_refused_with_the_known_ones(network):
    with pytest.raises(ValueError, match="no domain 'Task01'; the network has Task04_Hippocampus, Task09_Spleen"):
        network(torch.rand(1, 1, 16, 16, 16), domain="Task01")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": {}}, "num_classes is empty"),
        ({"num_classes": {"a.b": 2}}, "'a.b' holds a dot"),
        ({"num_classes": {"a": 1}}, "'a' has 1 classes, but needs 2 or more"),
        ({"num_classes": {"a": 2}, "default_domain": "b"}, "no domain 'b'; the network has a"),
    ],
)
def test_wrong_domains_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Med3DNet(depth=10, **arguments)


def test_encoder_arguments_reach_the_encoder():
    network = Med3DNet(
        {"a": 2},
        depth=18,
        shortcut_type="B",
        in_channels=2,
        dilations=(2, 2),
        strides=((2, 2, 2), (2, 2, 1), (2, 2, 2)),
    )
    assert network.encoder.settings == {
        "architecture": "resnet",
        "depth": 18,
        "shortcut_type": "B",
        "in_channels": 2,
        "dilations": [2, 2],
        "preactivation": False,
        "strides": [[2, 2, 2], [2, 2, 1], [2, 2, 2]],
    }


def test_23_domains_work():
    domains = {f"domain_{i}": 2 + i for i in range(23)}
    with torch.device("meta"):
        network = Med3DNet(domains, depth=10)
        for name, classes in domains.items():
            assert network(torch.zeros(1, 1, 16, 16, 16), domain=name).shape == (1, classes, 16, 16, 16)
