from __future__ import annotations

from pathlib import Path

import pytest
import torch

from med3d_components.networks import Med3DNet
from med3d_components.weights import load_checkpoint
from tests.weights.conftest import assert_unchanged, copy_of, med3d, prefixed, random_state, resnet, save

DOMAINS = {"Liver": 2, "Spleen": 3}


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": prefixed(s, "module.")}]
)
def test_a_whole_network_is_restored(wrap, tmp_path):
    saved, network = Med3DNet(DOMAINS, depth=10), med3d(DOMAINS)
    report = load_checkpoint(network, tmp_path / Path(save(wrap(saved.state_dict()), tmp_path / "model.pt")).name)
    assert report.share == 1
    assert_unchanged(network, saved.state_dict())


def test_a_network_without_encoder_is_restored_strictly(tmp_path):
    saved = torch.nn.Linear(2, 3)
    path = save(saved.state_dict(), tmp_path / "model.pt")
    network = torch.nn.Linear(2, 3)
    load_checkpoint(network, path)
    assert torch.equal(network.weight, saved.weight)
    with pytest.raises(ValueError, match=r"of another shape: weight \(3, 2\) instead of \(4, 2\)"):
        load_checkpoint(torch.nn.Linear(2, 4), path)


CHECKPOINT_FAILURES = {
    "depth": (lambda: med3d(DOMAINS, depth=18).state_dict(), "the file holds a ResNet-18 .* depth=18"),
    "missing domain": (
        lambda: med3d({"Liver": 2}, depth=10).state_dict(),
        "the file has no branch for Spleen: build the network with the file's domains {'Liver': 2}",
    ),
    "unexpected domain": (
        lambda: med3d({**DOMAINS, "Heart": 2}, depth=10).state_dict(),
        "the network has no branch for Heart",
    ),
    "classes": (
        lambda: med3d({**DOMAINS, "Liver": 4}, depth=10).state_dict(),
        "Liver has 4 classes in the file and 2 in the network",
    ),
    "encoder alone": (lambda: resnet(10).state_dict(), "the file holds an encoder alone"),
    "other network": (
        lambda: {**med3d(DOMAINS, depth=10).encoder.state_dict(prefix="encoder."), "head.weight": torch.zeros(1)},
        r"missing: branches \(4 entries\); unexpected: head \(1 entry\)",
    ),
}


@pytest.mark.parametrize("failure", CHECKPOINT_FAILURES)
def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(failure, tmp_path):
    content, message = CHECKPOINT_FAILURES[failure]
    network = med3d(DOMAINS)
    network.load_state_dict(random_state(network))
    before = copy_of(network)
    with pytest.raises(ValueError, match=message) as error:
        load_checkpoint(network, save(content(), tmp_path / "model.pt"))
    assert "\n" not in str(error.value)
    assert_unchanged(network, before)
