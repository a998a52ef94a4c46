from __future__ import annotations

import pytest
import torch
from torch import nn

from med3d_components.networks import DenseASPP3D, Med3DDenseASPPNet
from med3d_components.networks.dense_aspp import RATES, AtrousBlock, fit_rates
from med3d_components.weights import load_encoder

SMALL = {"depth": 10, "roi_size": (32, 32, 32), "bottleneck_channels": 8, "growth_channels": 4}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("feature_size", "expected"),
    [(64, RATES), (48, RATES), (32, (2, 4, 8, 12, 16)), (16, (1, 2, 4, 6, 8)), (8, (1, 1, 2, 3, 4)), (2, (1,) * 5)],
)
def test_rates_are_scaled_until_the_largest_is_half_the_map(feature_size, expected) -> None:
    assert fit_rates(RATES, feature_size, scaled=True) == expected


@pytest.mark.parametrize("feature_size", range(10, 40))
def test_scaled_rates_stay_different_where_the_map_has_room_for_them(feature_size) -> None:
    rates = fit_rates(RATES, feature_size, scaled=True)
    assert sorted(set(rates)) == list(rates)
    assert fit_rates(RATES[::-1], feature_size, scaled=True) == rates[::-1]


def test_rates_are_kept_if_all_are_below_the_map_and_refused_otherwise() -> None:
    assert fit_rates([24, 3], feature_size=25) == (24, 3)
    message = (
        "Atrous rate 24 sees nothing but padding in a patch of 192 voxels, whose feature map has 24 along its "
        "shortest axis: choose rates below 24, a patch of at least 200 voxels, or scaled=True."
    )
    with pytest.raises(ValueError, match=message):
        fit_rates([24, 3], feature_size=24)


@pytest.mark.parametrize(("rate", "effective"), [(4, True), (5, False)])
def test_a_rate_is_refused_exactly_where_its_kernel_sees_only_padding(rate, effective) -> None:
    block = AtrousBlock(3, 4, 2, rate, dropout=0.0).eval()
    x = [torch.rand(1, 3, 5, 5, 5)]
    with torch.no_grad():
        before = block(x)
        centre = torch.zeros(3, 3, 3)
        centre[1, 1, 1] = 1
        block[5].weight.mul_(centre)
        assert torch.allclose(block(x), before) != effective
    if effective:
        assert fit_rates([rate], feature_size=5) == (rate,)
    else:
        with pytest.raises(ValueError, match=f"Atrous rate {rate}"):
            fit_rates([rate], feature_size=5)


def test_the_largest_scaled_rate_gives_every_voxel_a_neighbour_along_each_axis_and_the_next_does_not() -> None:
    for size in (2, 7, 16):
        (rate,) = fit_rates([100], size, scaled=True)
        assert all(p >= rate or p + rate < size for p in range(size))
        assert not all(p >= rate + 1 or p + rate + 1 < size for p in range(size))


@pytest.mark.parametrize("rates", [(), (3, 0), (-1,), (1.5,), ("3",)])
@pytest.mark.parametrize("build", [lambda rates: fit_rates(rates, 16), lambda rates: DenseASPP3D(8, rates)])
def test_rates_that_are_no_positive_integers_are_refused(build, rates) -> None:
    with pytest.raises(ValueError, match="must be a list of one or more positive integers"):
        build(rates)


def test_every_block_sees_the_feature_and_all_earlier_outputs() -> None:
    aspp = DenseASPP3D(6, rates=(1, 2, 3), bottleneck_channels=5, growth_channels=4, dropout=0.0)
    seen, made = [], []
    for block in aspp.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append([x.clone() for x in inputs[0]]))
        block.register_forward_hook(lambda _, __, output: made.append(output.clone()))
    x = torch.rand(2, 6, 5, 4, 7)
    joint = aspp(x)
    assert torch.equal(joint, torch.cat([x, *made], dim=1))
    assert joint.shape == (2, aspp.out_channels, 5, 4, 7) == (2, 6 + 3 * 4, 5, 4, 7)
    for i, (block, inputs) in enumerate(list(zip(aspp.blocks, seen, strict=True))):
        assert all(torch.equal(*pair) for pair in zip(inputs, [x, *made[:i]], strict=True))
        inputs = [value.detach().requires_grad_() for value in inputs]
        block(inputs).square().sum().backward()
        assert all(value.grad.abs().sum() > 0 for value in inputs)


@pytest.mark.parametrize(
    ("rates", "offsets"), [((3,), {0, 3}), ((1, 3), {0, 1, 2, 3, 4}), ((2, 5), {0, 2, 3, 5, 7})], ids=str
)
def test_a_voxel_depends_on_those_that_sums_of_rates_reach(rates, offsets) -> None:
    aspp = DenseASPP3D(2, rates, bottleneck_channels=3, growth_channels=2).eval()
    for parameter in aspp.parameters():
        nn.init.constant_(parameter, 0.1)  # so that no ReLU is closed and no effects cancel out
    x = torch.rand(1, 2, 17, 1, 1, requires_grad=True)
    aspp(x)[0, -1, 8, 0, 0].backward()
    reached = x.grad[0, 0, :, 0, 0].nonzero().flatten() - 8
    assert set(reached.tolist()) == offsets | {-offset for offset in offsets}


@pytest.mark.parametrize("size", [(16, 24, 32), (15, 17, 9), (33, 16, 31)])
def test_a_segmentation_is_exactly_as_large_as_its_input(size) -> None:
    network = Med3DDenseASPPNet(num_classes=3, **SMALL).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 1, *size)).shape == (2, 3, *size)


def test_the_network_of_the_paper_is_the_default() -> None:
    with torch.device("meta"):
        network = Med3DDenseASPPNet()
        assert network(torch.zeros(1, 1, 128, 128, 128)).shape == (1, 2, 128, 128, 128)
    assert (network.encoder.settings["depth"], network.rates) == (152, (1, 2, 4, 6, 8))
    assert network.classifier.in_channels == network.aspp.out_channels == 2048 + 5 * 64


@pytest.mark.parametrize("region", [(72, 200, 300), (300, 65, 200)])
def test_the_shortest_axis_decides_which_rates_fit_and_the_encoder_rounds_it_up(region) -> None:
    network = Med3DDenseASPPNet(**{**SMALL, "roi_size": region}, rates=(2, 8), scaled=False)
    atrous = [m for m in network.aspp.modules() if isinstance(m, nn.Conv3d) and m.kernel_size == (3, 3, 3)]
    assert [m.dilation for m in atrous] == [(rate,) * 3 for rate in network.rates] == [(2,) * 3, (8,) * 3]
    with pytest.raises(ValueError, match="rate 9 sees nothing but padding in a patch of 72 voxels"):
        Med3DDenseASPPNet(**{**SMALL, "roi_size": region}, rates=(2, 9), scaled=False)


def twins(**arguments):
    """The same network without and with checkpointing."""
    plain, checkpointed = (Med3DDenseASPPNet(**SMALL, checkpointing=on, **arguments) for on in (False, True))
    checkpointed.load_state_dict(plain.state_dict())
    return plain, checkpointed


@pytest.mark.parametrize("frozen", [(), ("stem", "layer1")], ids=["all_learn", "frozen"])
def test_checkpointing_changes_neither_outputs_nor_gradients_nor_statistics(frozen) -> None:
    results = []
    for network in twins(frozen_stages=frozen, dropout=0.5):
        torch.manual_seed(1)
        logits = [network(torch.rand(2, 1, 16, 16, 16)) for _ in range(2)]
        sum(x.square().mean() for x in logits).backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        results.append((logits, gradients, dict(network.named_buffers())))
    plain, checkpointed = results
    torch.testing.assert_close(checkpointed, plain, rtol=1e-5, atol=1e-7)
    assert plain[2]["aspp.blocks.4.0.num_batches_tracked"] == 2
    assert len(plain[1]) == sum(p.requires_grad for p in network.parameters())
    assert all(gradient.abs().sum() > 0 for gradient in plain[1].values())


def saved_bytes(network: nn.Module, x: torch.Tensor) -> int:
    """What autograd keeps between the forward and the backward pass, parameters aside; nothing is computed."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        if not isinstance(value, nn.Parameter):
            storage = value.untyped_storage()
            kept[storage._cdata] = storage
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        network(x)
    return sum(storage.nbytes() for storage in kept.values())


def test_checkpointing_keeps_less_than_half_in_training_and_changes_nothing_otherwise() -> None:
    with torch.device("meta"):
        plain, checkpointed = (Med3DDenseASPPNet(depth=50, checkpointing=on) for on in (False, True))
    x = torch.zeros(1, 1, 64, 64, 64, device="meta")
    assert saved_bytes(checkpointed, x) < 0.45 * saved_bytes(plain, x)
    assert saved_bytes(checkpointed.eval(), x) == saved_bytes(plain.eval(), x)


def test_checkpointing_keeps_nothing_inside_the_blocks_of_dense_aspp() -> None:
    with torch.device("meta"):
        plain, checkpointed = (DenseASPP3D(2048, (1, 2), checkpointing=on) for on in (False, True))
    feature = torch.zeros(1, 2048, 8, 8, 8, device="meta", requires_grad=True)
    assert saved_bytes(plain, feature) > 0
    assert saved_bytes(checkpointed, feature) == 0


def test_a_checkpointed_network_has_the_names_of_a_plain_one_and_loads_an_encoder(tmp_path) -> None:
    plain, checkpointed = twins()
    assert list(plain.state_dict()) == list(checkpointed.state_dict())
    other = Med3DDenseASPPNet(**SMALL)
    torch.save({"state_dict": other.encoder.state_dict(), "settings": other.encoder.settings}, tmp_path / "e.pt")
    load_encoder(checkpointed, str(tmp_path / "e.pt"))
    assert all(map(torch.equal, checkpointed.encoder.parameters(), other.encoder.parameters()))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_network_can_be_scripted(checkpointing) -> None:
    network = Med3DDenseASPPNet(**SMALL, checkpointing=checkpointing).eval()
    x = torch.rand(1, 1, 19, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(x), network(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1, but must be 2 or more, background included"),
        ({"roi_size": (64, 64)}, r"roi_size is \(64, 64\), but must be three positive integers"),
        ({"roi_size": (64, 64, 0)}, "must be three positive integers"),
        ({"roi_size": (64, 8, 64)}, "No atrous rate fits a map of 1 voxel; choose a patch above 8 voxels"),
        ({"bottleneck_channels": 0}, "bottleneck_channels is 0 and growth_channels 4, but both must be positive"),
        ({"growth_channels": -1}, "growth_channels -1, but both must be positive"),
    ],
)
def test_what_cannot_be_built_is_said(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Med3DDenseASPPNet(**{**SMALL, **arguments})
