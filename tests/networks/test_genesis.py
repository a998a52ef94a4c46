from __future__ import annotations

import pytest
import torch

from med3d_components.networks import DilatedResNet, GenesisEncoder, GenesisEncoderDecoder, GenesisUNet
from tests.networks.parity import GENESIS, fill, wave


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def published() -> GenesisUNet:
    with torch.device("meta"):
        network = GenesisUNet()
    return fill(network)


def meta(build, *arguments):
    with torch.device("meta"):
        return build(*arguments)


def shapes(network) -> dict[str, list[int]]:
    return {name: list(x.shape) for name, x in network.state_dict().items()}


def assert_published(output: torch.Tensor) -> None:
    expected = GENESIS["output"]
    assert list(output.shape) == expected["shape"]
    assert output.mean().item() == pytest.approx(expected["mean"], rel=1e-6)
    assert output.std().item() == pytest.approx(expected["std"], rel=1e-6)
    assert output.flatten()[expected["index"]].tolist() == pytest.approx(expected["value"], rel=1e-6)


def test_names_shapes_and_size_are_those_of_the_published_network() -> None:
    network = meta(GenesisUNet)
    assert shapes(network) == GENESIS["keys"]
    assert sum(p.numel() for p in network.parameters()) == GENESIS["parameters"] == 19_073_665


def test_outputs_equal_those_of_the_published_network_in_training(published) -> None:
    with torch.no_grad():
        assert_published(published.train()(0.5 * wave("input", (2, 1, 16, 24, 16)) + 0.5))


def test_with_batch_statistics_outputs_equal_the_published_ones_in_evaluation_too(published) -> None:
    network = meta(GenesisUNet, "true")
    network.load_state_dict(published.state_dict(), assign=True)
    with torch.no_grad():
        assert_published(network.eval()(0.5 * wave("input", (2, 1, 16, 24, 16)) + 0.5))


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_a_prediction_depends_on_its_batch_only_where_batch_statistics_are_asked_for(batch_statistics) -> None:
    network = GenesisUNet(batch_statistics).eval()
    x, mate = torch.rand(1, 1, 8, 16, 8), torch.rand(1, 1, 8, 16, 8) ** 3
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        alone, together = network(x), network(torch.cat((x, mate)))[:1]
    assert torch.allclose(alone, together, atol=1e-6) != batch_statistics
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_both_kinds_of_norm_move_their_statistics_alike_in_training() -> None:
    networks = [GenesisEncoder(flag).train() for flag in (False, True)]
    networks[1].load_state_dict(networks[0].state_dict())
    before = {name: value.clone() for name, value in networks[0].named_buffers() if "running" in name}
    x = torch.rand(2, 1, 8, 16, 8)
    with torch.no_grad():
        maps, others = (network(x) for network in networks)
    assert all(map(torch.equal, maps, others))
    plain, batch = (dict(network.named_buffers()) for network in networks)
    assert all(torch.equal(plain[name], batch[name]) for name in before)
    assert not any(torch.equal(plain[name], before[name]) for name in before)


@pytest.mark.parametrize("size", [(16, 24, 8), (17, 9, 14), (1, 8, 20)])
def test_any_size_is_taken_and_given_back(size) -> None:
    network = GenesisUNet().eval()
    with torch.no_grad():
        restored = network(torch.rand(1, 1, *size))
        maps = network.encode(torch.rand(1, 1, *size))
    assert restored.shape == (1, 1, *size)
    assert 0 <= restored.min() < restored.max() <= 1
    assert [x.shape[1] for x in maps] == list(network.channels)
    assert [tuple(x.shape[2:]) for x in maps] == [tuple(-(-n // stride) for n in size) for stride in (1, 2, 4, 8)]


def test_an_object_that_moves_by_the_stride_moves_as_far_in_the_result_of_an_odd_size() -> None:
    network = GenesisUNet().eval()
    x = torch.zeros(1, 1, 155, 8, 7)  # so long that no border is felt
    x[:, :, 70:79] = 1
    with torch.no_grad():
        restored, moved = network(x), network(x.roll(8, dims=2))
    assert torch.allclose(restored[:, :, 60:80], moved[:, :, 68:88], atol=1e-6)
    assert restored[:, :, 60:80].std() > 1e-4


def test_the_parts_are_the_published_network_without_what_comes_later(published) -> None:
    x = torch.rand(1, 1, 8, 16, 8, dtype=torch.double)
    published, encoder, decoder = published.eval(), meta(GenesisEncoder).eval(), meta(GenesisEncoderDecoder).eval()
    assert shapes(encoder) == {k: v for k, v in GENESIS["keys"].items() if k.startswith("down_")}
    assert shapes(decoder) == {k: v for k, v in GENESIS["keys"].items() if not k.startswith("out_")}
    for part in (encoder, decoder):
        part.load_state_dict(published.state_dict(), strict=False, assign=True)
    with torch.no_grad():
        assert all(map(torch.equal, encoder(x), published.encode(x)))
        assert torch.equal(published.out_tr(decoder(x)), published(x))
    assert decoder(x).shape == (1, decoder.features, 8, 16, 8)


def test_the_u_net_is_its_own_encoder() -> None:
    network = meta(GenesisUNet)
    assert network.encoder is network
    assert not any(name.startswith("encoder.") for name in network.state_dict())


def test_settings_have_the_keys_of_a_resnet() -> None:
    settings = meta(GenesisEncoder).settings
    assert list(settings) == list(meta(DilatedResNet, 10).settings)
    assert (settings["architecture"], settings["in_channels"]) == ("genesis", 1)


@pytest.mark.parametrize("build", [GenesisEncoder, GenesisUNet, lambda: GenesisUNet(True)])
def test_torchscript_gives_the_same_values(build) -> None:
    network = build().eval()
    x = torch.rand(1, 1, 19, 8, 13)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(x), network(x))


def test_a_flag_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_statistics is 'maybe', but must be true or false"):
        meta(GenesisEncoder, "maybe")
