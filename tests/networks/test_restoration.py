from __future__ import annotations

import pytest
import torch

from med3d_components.networks import (
    DilatedResNet,
    Med3DClassificationNet,
    Med3DDenseASPPNet,
    Med3DNet,
    Med3DRestorationNet,
    Med3DSegmentationNet,
)
from med3d_components.weights import load_encoder

WIDTHS = ((16, 8), (8, 8), (8, 4))


@pytest.fixture
def network() -> Med3DRestorationNet:
    torch.manual_seed(0)
    return Med3DRestorationNet(10, WIDTHS).eval()


@pytest.mark.parametrize("size", [(16, 24, 16), (15, 17, 9)])
def test_a_restoration_has_one_channel_of_the_inputs_size_in_0_to_1(network, size) -> None:
    with torch.no_grad():
        restored = network(torch.rand(2, 1, *size))
    assert restored.shape == (2, 1, *size)
    assert 0 < restored.min() < restored.max() < 1


def test_encoder_and_decoder_are_those_of_the_segmentation_network(network) -> None:
    segmentation = Med3DSegmentationNet(2, 10, WIDTHS).eval()
    state = {k: x for k, x in network.state_dict().items() if not k.startswith("classifier.")}
    wrong = segmentation.load_state_dict(state, strict=False)
    assert (wrong.missing_keys, wrong.unexpected_keys) == (["classifier.weight", "classifier.bias"], [])
    convolution = network.classifier[0]
    segmentation.classifier.load_state_dict({k: x.expand(2, *x.shape[1:]) for k, x in convolution.state_dict().items()})
    x = torch.rand(1, 1, 17, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(x).expand(-1, 2, -1, -1, -1), segmentation(x).sigmoid())


def test_the_names_of_a_segmentation_networks_entries_stay() -> None:
    with torch.device("meta"):
        names = list(Med3DSegmentationNet(3, 10).state_dict())
    assert {name.split(".")[0] for name in names} == {"encoder", "decoder", "classifier"}
    assert {"decoder.0.0.weight", "decoder.2.4.running_var", "classifier.weight", "classifier.bias"} <= set(names)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Med3DNet({"a": 2}, 10),
        lambda: Med3DSegmentationNet(2, 10, WIDTHS),
        lambda: Med3DClassificationNet(2, 10),
        lambda: Med3DDenseASPPNet(2, 10, (32, 32, 32)),
    ],
    ids=["med3d", "segmentation", "classification", "dense_aspp"],
)
def test_what_it_learnt_gives_bit_equal_features_in_every_med3d_network(network, build, tmp_path) -> None:
    other = build().eval()
    torch.save({"state_dict": network.encoder.state_dict(), "settings": {"depth": 10}}, tmp_path / "encoder.pt")
    assert load_encoder(other, str(tmp_path / "encoder.pt")).dropped == ()
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert all(map(torch.equal, other.encoder(x), network.encoder(x)))


def test_its_decoder_is_dropped_where_the_encoder_is_loaded_from_the_whole_network(network, tmp_path) -> None:
    torch.save(network.state_dict(), tmp_path / "model.pt")
    report = load_encoder(DilatedResNet(10), str(tmp_path / "model.pt"))
    assert {name.split(".")[0] for name in report.dropped} == {"decoder", "classifier"}
    assert report.share == 1


def test_it_can_be_scripted(network) -> None:
    x = torch.rand(1, 1, 19, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(x), network(x))


def test_wrong_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="must be three pairs of positive integers"):
        Med3DRestorationNet(10, ((16, 8),))
