"""Weights of Models Genesis, published or our own, in the networks that take them over."""

from __future__ import annotations

import logging
from zlib import crc32

import pytest
import torch

from med3d_components.networks import (
    CascadeNet,
    GenesisClassificationNet,
    GenesisSegmentationNet,
    GenesisUNet,
    Med3DNet,
    Med3DSegmentationNet,
)
from med3d_components.weights import CARDS, load_checkpoint, load_encoder
from med3d_components.weights.overlap import describe_overlap
from tests.networks.parity import fill
from tests.weights.conftest import assert_unchanged, blank, copy_of, prefixed, resnet, save

LAST = ("out_tr.final_conv.weight", "out_tr.final_conv.bias")
TARGETS = {
    "restoration": (GenesisUNet, set()),
    "segmentation": (lambda: GenesisSegmentationNet(3), {"out_tr"}),
    "classification": (lambda: GenesisClassificationNet(2), {"up_tr256", "up_tr128", "up_tr64", "out_tr"}),
}


@pytest.fixture(scope="module")
def pretrained() -> GenesisUNet:
    """A U-Net of weights that no fresh network has."""
    with torch.device("meta"):
        network = GenesisUNet()
    return fill(network).float()


@pytest.fixture(scope="module")
def published(pretrained, tmp_path_factory) -> str:
    """The layout and the name of the published file."""
    content = {
        "epoch": 680,
        "state_dict": prefixed(pretrained.state_dict(), "module."),
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1.0, "momentum": 0.9}]},
    }
    return save(content, tmp_path_factory.mktemp("weights") / "Genesis_Chest_CT.pt")


def light_state(network):
    """Return entries of the right names and shapes, each of one number so that they take no room."""
    numbers = {name: crc32(name.removeprefix("encoder.").encode()) % 97 + 1 for name in network.state_dict()}
    return {name: torch.tensor(numbers[name]).to(x).expand(x.shape) for name, x in network.state_dict().items()}


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("target", TARGETS)
def test_the_published_file_gives_bit_equal_features_in_every_network(target, pretrained, published) -> None:
    build, heads = TARGETS[target]
    network = blank(build).eval()
    others = {name for name in network.state_dict() if network.encoder is not network and "encoder." not in name}
    report = load_encoder(network, f"genesis:{published}")
    assert (report.share, report.missing, report.unexpected) == (1, (), ())
    assert [adapted.split(" taken")[0] for adapted in report.adapted] == ["prefix 'module.'"]
    assert {name.split(".")[0] for name in report.dropped} == heads
    assert len(report.matched) + len(report.dropped) == len(pretrained.state_dict())
    assert all(not network.state_dict()[name].any() for name in others)
    x = torch.rand(1, 1, 16, 24, 16)
    with torch.no_grad():
        if target == "classification":
            assert all(map(torch.equal, network.encoder(x), pretrained.encode(x)))
        elif target == "segmentation":
            assert torch.equal(network.encoder(x), pretrained.decode(pretrained.encode(x)))
        else:
            assert torch.equal(network(x), pretrained(x))


OURS = {
    "encoder.pt of a U-Net": (
        lambda: {"state_dict": light_state(blank(GenesisUNet)), "settings": {"architecture": "genesis", "depth": 50}},
        LAST,
    ),
    "model.pt of a U-Net": (lambda: light_state(blank(GenesisUNet)), LAST),
    "last.pt of a U-Net": (lambda: {"network": light_state(blank(GenesisUNet)), "epoch": 3}, LAST),
    "encoder.pt of a segmentation": (
        lambda: {
            "state_dict": light_state(blank(lambda: GenesisSegmentationNet(2)).encoder),
            # As configs write them, although the U-Net has no depth.
            "settings": {"architecture": "genesis", "depth": 50, "shortcut_type": None, "dilations": [2, 4]},
        },
        (),
    ),
    "model.pt of a segmentation": (
        lambda: light_state(blank(lambda: GenesisSegmentationNet(2))),
        ("classifier.weight", "classifier.bias"),
    ),
}


@pytest.mark.parametrize("layout", OURS)
def test_our_own_files_load_from_their_path_and_say_what_they_drop(layout, tmp_path, caplog) -> None:
    content, dropped = OURS[layout]
    network = blank(lambda: GenesisSegmentationNet(3))
    report = load_encoder(network, save(content(), tmp_path / "file.pt"))
    assert (report.share, report.unexpected, report.dropped) == (1, (), dropped)
    assert_unchanged(network.encoder, light_state(network.encoder))
    assert not network.classifier.weight.any()
    assert warnings(caplog) == []


def test_dropped_parts_of_a_segmentation_are_named_without_their_prefix(tmp_path) -> None:
    path = save(light_state(blank(lambda: GenesisSegmentationNet(2))), tmp_path / "model.pt")
    report = load_encoder(blank(GenesisClassificationNet), path)
    assert "dropped     up_tr256 (16 entries), up_tr128 (16 entries), up_tr64 (16 entries), classifier" in str(report)


FAILURES = {
    "a classification's encoder for a segmentation": (
        lambda: light_state(blank(GenesisClassificationNet).encoder),
        r"missing: up_tr256 \(16 entries\), up_tr128 \(16 entries\), up_tr64 \(16 entries\)\.$",
    ),
    "a missing statistic": (
        lambda: {k: x for k, x in light_state(blank(GenesisUNet)).items() if k != "up_tr64.ops.0.bn1.running_var"},
        r"99.9 % of the network's values match; missing: up_tr64 \(1 entry\)\.$",
    ),
    "an unexpected entry": (
        lambda: {**light_state(blank(GenesisUNet)), "neck.weight": torch.ones(1)},
        r"unexpected: neck \(1 entry\)\.$",
    ),
    "another size of a convolution": (
        lambda: {**light_state(blank(GenesisUNet)), "down_tr64.ops.0.conv1.weight": torch.ones(32, 1, 5, 5, 5)},
        r"1 of another shape: down_tr64.ops.0.conv1.weight \(32, 1, 5, 5, 5\) instead of \(32, 1, 3, 3, 3\)",
    ),
    "a ResNet": (
        lambda: light_state(resnet(10)),
        "the file holds a ResNet, but the network is a Models Genesis U-Net: choose --architecture resnet, or give "
        r"another file\.$",
    ),
    "an old encoder.pt": (
        lambda: {"state_dict": light_state(resnet(10)), "settings": {"depth": 10, "shortcut_type": "B"}},
        "the file holds a ResNet, but the network is a Models Genesis U-Net: choose --architecture resnet",
    ),
    "something else": (lambda: {"down.0.weight": torch.ones(3)}, "0.0 % .* missing: down_tr64 .* unexpected: down"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(failure, tmp_path) -> None:
    content, message = FAILURES[failure]
    network = blank(lambda: GenesisSegmentationNet(2))
    before = copy_of(network)
    with pytest.raises(ValueError, match=f"does not fit, and the network is unchanged: .*{message}") as error:
        load_encoder(network, save(content(), tmp_path / "file.pt"))
    assert "\n" not in str(error.value)
    assert_unchanged(network, before)


@pytest.mark.parametrize("build", [lambda: Med3DSegmentationNet(2, 10), lambda: Med3DNet({"a": 2}, 50)])
@pytest.mark.parametrize("whole", [GenesisUNet, lambda: GenesisSegmentationNet(2)])
def test_a_u_net_file_for_a_resnet_names_the_option_to_set(build, whole, tmp_path) -> None:
    path = save(light_state(blank(whole)), tmp_path / "file.pt")
    message = "holds a Models Genesis U-Net, but the network is a ResNet: choose --architecture genesis, or give"
    with pytest.raises(ValueError, match=message) as error:
        load_encoder(blank(build), path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("build", "source", "architecture"),
    [
        (GenesisClassificationNet, "medicalnet", "resnet"),
        (GenesisClassificationNet, "medicalnet_23", "resnet"),
        (GenesisUNet, "kinetics:r3d50_K_200ep.pth", "resnet"),
        (lambda: resnet(10), "genesis:Genesis_Chest_CT.pt", "genesis"),
    ],
)
def test_a_source_of_the_other_architecture_is_refused_before_it_is_sought(build, source, architecture) -> None:
    with pytest.raises(
        ValueError, match=f"^'{source}' does not fit: .*: choose --architecture {architecture}, or"
    ) as e:
        load_encoder(blank(build), source)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("folder", ["medicalnet_weights", "genesis", "kinetics"])
def test_a_path_that_begins_like_a_source_is_a_path(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir()
    save(light_state(blank(GenesisUNet)), tmp_path / folder / "file.pt")
    assert load_encoder(blank(GenesisClassificationNet), f"{folder}/file.pt").share == 1


def test_a_missing_file_is_named_with_what_is_allowed() -> None:
    with pytest.raises(FileNotFoundError, match=r"'genesis:none\.pt' are neither an existing file nor .* genesis:FILE"):
        load_encoder(blank(GenesisClassificationNet), "genesis:none.pt")


@pytest.mark.parametrize(
    ("prefix", "name", "warned"),
    [
        ("genesis:", "Genesis_Chest_CT.pt", True),
        ("", "Genesis_Chest_CT.pt", True),
        ("genesis:", "renamed.pt", True),
        ("", "encoder.pt", False),
    ],
)
def test_the_licence_of_the_published_weights_is_warned_of(prefix, name, warned, tmp_path, caplog) -> None:
    path = save(prefixed(light_state(blank(GenesisUNet)), "module."), tmp_path / name)
    report = load_encoder(blank(GenesisClassificationNet), f"{prefix}{path}")
    assert [name in text and "non-commercial use only" in text for text in warnings(caplog)] == [True] * warned
    overlap = describe_overlap(report, "LIDC-IDRI")
    assert ("(LUNA16)" in str(overlap)) == warned


def test_a_refused_file_is_not_warned_of(tmp_path, caplog) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        load_encoder(blank(GenesisUNet), save({"a": torch.ones(1)}, tmp_path / "Genesis_Chest_CT.pt"))
    assert warnings(caplog) == []


def test_its_card_alone_forbids_commercial_use() -> None:
    (card,) = (card for card in CARDS if card.non_commercial)
    assert (card.source, card.filename) == ("genesis", "Genesis_Chest_CT.pt")
    assert "Arizona State University" in card.licence
    assert "genesis:FILE" in card.note


def test_a_whole_network_is_restored_and_one_of_the_other_architecture_refused(tmp_path) -> None:
    network = blank(lambda: GenesisSegmentationNet(2))
    load_checkpoint(network, save(light_state(network), tmp_path / "model.pt"))
    assert_unchanged(network, light_state(network))
    for build, architecture in ((lambda: Med3DNet({"liver": 2}, 10), "resnet"), (GenesisClassificationNet, None)):
        message = f"choose --architecture {architecture}" if architecture else "missing: .*unexpected: hidden"
        with pytest.raises(ValueError, match=message):
            load_checkpoint(network, save(light_state(blank(build)), tmp_path / "other.pt"))
    with pytest.raises(ValueError, match=r"give it as pre-trained weights \(load_encoder\)"):
        load_checkpoint(network, save(light_state(network.encoder), tmp_path / "encoder.pt"))


def test_a_coarse_checkpoint_of_the_other_architecture_is_refused(tmp_path) -> None:
    network = blank(lambda: CascadeNet(lambda: Med3DNet({"liver": 2}, depth=10), depth=10, roi_size=(32, 32, 32)))
    with pytest.raises(ValueError, match="choose --architecture genesis"):
        network.load_coarse(save(light_state(blank(lambda: GenesisSegmentationNet(2))), tmp_path / "model.pt"))
