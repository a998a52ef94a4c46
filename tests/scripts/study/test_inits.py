from __future__ import annotations

from pathlib import Path

import pytest

from scripts.study.inits import Init, Network, list_networks, parse_inits

RESNET, UNET = Network("R18", {"depth": 18}), Network("U-Net", {"architecture": "genesis"})


def test_scratch_stands_for_the_papers_rate_and_for_that_of_the_others() -> None:
    found = {init.label: (init.weights, init.learning_rate) for init in parse_inits("scratch, medicalnet")}
    assert found == {"scratch": ("none", 0.01), "scratch_0.001": ("none", 0.001), "medicalnet": ("medicalnet", 0.001)}


def test_an_entry_is_named_by_itself_its_kind_or_by_you() -> None:
    entries = ["kinetics:/k/{depth}.pth", "genesis:/g.pt", "mine=/m.pt", "second=medicalnet_23"]
    for inits in (entries, tuple(entries), ",".join(entries)):
        assert [init.label for init in parse_inits(inits)] == ["kinetics", "genesis", "mine", "second"]


@pytest.mark.parametrize(
    ("inits", "message"),
    [
        ("runs/encoder.pt", "has the entry 'runs/encoder.pt', but entries are scratch, medicalnet"),
        ("mine=", "has the entry 'mine='"),
        ("scratch,scratch", "has scratch twice"),
        ("a/b=medicalnet", "has the name 'a/b', but names are letters"),
    ],
)
def test_what_cannot_be_read_is_refused(inits: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_inits(inits)


def test_weights_of_models_genesis_get_their_network_which_is_trained_from_scratch_too() -> None:
    inits = parse_inits("scratch,medicalnet,genesis:/g.pt")
    assert [network.label for network in list_networks(inits, (10, 50), {})] == ["R10", "R50", "U-Net"]
    assert [init.label for init in inits if init.fits(UNET)] == ["scratch", "scratch_0.001", "genesis"]
    assert [init.label for init in inits if init.fits(RESNET)] == ["scratch", "scratch_0.001", "medicalnet"]
    assert [network.label for network in list_networks(parse_inits("scratch,genesis:/g.pt"), (10,), {})] == ["U-Net"]
    assert [network.label for network in list_networks(parse_inits("scratch"), (10,), {})] == ["R10"]
    preactivated = list_networks(parse_inits("scratch"), (200,), {"preactivation": True})
    assert preactivated == [Network("PreR200", {"depth": 200})]


def test_the_depth_in_a_path_is_filled_in_and_a_missing_file_of_one_depth_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "r18.pth").touch()
    init = Init("kinetics", f"kinetics:{tmp_path}/r{{depth}}.pth")
    assert init.find(RESNET) == f"kinetics:{tmp_path}/r18.pth"
    assert init.find(Network("R10", {"depth": 10})) is None
    assert Init("medicalnet", "medicalnet").find(RESNET) == "medicalnet"
    with pytest.raises(FileNotFoundError, match=r"no\.pt, the weights of mine, does not exist"):
        Init("mine", str(tmp_path / "no.pt")).find(RESNET)
