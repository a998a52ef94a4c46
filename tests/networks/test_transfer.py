"""What holds for the networks that take over the encoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from med3d_components.networks import DilatedResNet, Med3DClassificationNet, Med3DNet, Med3DSegmentationNet
from med3d_components.weights import load_encoder

SHORTCUTS = {10: "B", 18: "A"}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [(16, 24, 32), (15, 17, 9), (1, 8, 20), (33, 16, 31)])
def test_a_segmentation_is_exactly_as_large_as_its_input(size) -> None:
    network = Med3DSegmentationNet(num_classes=3, depth=10, widths=((16, 8), (8, 8), (8, 4))).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 1, *size)).shape == (2, 3, *size)


def test_an_object_that_moves_by_the_stride_moves_as_far_in_the_result() -> None:
    network = Med3DSegmentationNet(num_classes=2, depth=10, widths=((16, 8), (8, 8), (8, 4))).double().eval()
    x = torch.zeros(1, 1, 400, 8, 8, dtype=torch.double)  # so long that no border is felt
    x[:, :, 190:203] = 1
    with torch.no_grad():
        logits, moved = network(x), network(x.roll(8, dims=2))
    assert torch.allclose(logits[:, :, 160:230], moved[:, :, 168:238], atol=1e-9)
    assert logits[:, :, 160:230].std() > 1e-3


@pytest.mark.parametrize(
    ("widths", "channels"),
    [
        (((256, 128), (128, 64), (64, 32)), [512, 256, 128, 128, 64, 64, 32]),
        (((256, 128), (512, 256), (1024, 512)), [512, 256, 128, 512, 256, 1024, 512]),
    ],
    ids=["halving", "doubling"],
)
def test_both_readings_of_the_decoder_can_be_built(widths, channels) -> None:
    decoder = Med3DSegmentationNet(2, 10, widths).decoder
    convolutions = [m for m in decoder.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    assert [convolutions[0].in_channels, *(m.out_channels for m in convolutions)] == channels
    assert [isinstance(m, nn.ConvTranspose3d) for m in convolutions] == [True, False] * 3


def test_a_classification_takes_any_size_and_equals_a_linear_layer_on_the_mean() -> None:
    network = Med3DClassificationNet(num_classes=3, depth=10).eval()
    x = torch.rand(2, 1, 17, 24, 30)
    with torch.no_grad():
        weight, bias = network.classifier.weight[:, :, 0, 0, 0], network.classifier.bias
        expected = network.encoder(x)[-1].flatten(2).mean(2) @ weight.T + bias
        assert torch.allclose(network(x), expected, atol=1e-4)


@pytest.mark.parametrize("depth", SHORTCUTS)
def test_one_encoder_file_gives_bit_equal_features_in_every_network(depth, tmp_path) -> None:
    source = Med3DNet({"a": 2}, depth)
    torch.save({"state_dict": source.encoder.state_dict(), "settings": source.encoder.settings}, tmp_path / "e.pt")
    x = torch.rand(1, 1, 24, 24, 24)
    with torch.no_grad():
        expected = source.encoder.eval()(x)
        for network in (Med3DSegmentationNet(3, depth), Med3DClassificationNet(2, depth)):
            load_encoder(network, str(tmp_path / "e.pt"))
            assert all(map(torch.equal, network.eval().encoder(x), expected))


@pytest.mark.parametrize("network", [Med3DSegmentationNet(2, 10), Med3DClassificationNet(2, 10)], ids=["seg", "cls"])
def test_the_networks_can_be_scripted(network) -> None:
    x = torch.rand(1, 1, 19, 16, 16)
    with torch.no_grad():
        assert torch.allclose(torch.jit.script(network.eval())(x), network(x), atol=1e-5)


@pytest.mark.parametrize("stages", [("stem", "layer1"), ("layer4",), ("stem", "layer1", "layer2", "layer3", "layer4")])
def test_frozen_stages_change_neither_weights_nor_statistics_and_the_others_do(stages) -> None:
    encoder = DilatedResNet(10, frozen_stages=stages).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-2, weight_decay=1e-2)
    features = encoder(torch.rand(2, 1, 16, 16, 16))[-1]
    if features.requires_grad:
        features.square().mean().backward()
    optimizer.step()
    prefixes = {"stem": ("conv1.", "bn1."), **{f"layer{i}": (f"layer{i}.",) for i in range(1, 5)}}
    for stage, names in prefixes.items():
        changed = any(
            not torch.equal(x, before[name]) for name, x in encoder.state_dict().items() if name.startswith(names)
        )
        assert changed == (stage not in stages), stage


@pytest.mark.parametrize("stages", ["stem", ["layer5"], ["stem", 3]])
def test_a_stage_that_does_not_exist_cannot_be_frozen(stages) -> None:
    with pytest.raises(ValueError, match="must be a list of names among stem, layer1, layer2, layer3, layer4"):
        DilatedResNet(10, frozen_stages=stages)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Med3DSegmentationNet(1), "num_classes is 1, but must be 2 or more, background included"),
        (lambda: Med3DSegmentationNet(2, widths=((256, 128),)), "must be three pairs of positive integers"),
        (lambda: Med3DSegmentationNet(2, widths=((2, 1), (0, 1), (1, 1))), "must be three pairs of positive integers"),
        (lambda: Med3DClassificationNet(1), "num_classes is 1, but must be 2 or more"),
    ],
)
def test_what_cannot_be_built_is_said(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_flags_may_come_as_text_from_the_command_line() -> None:
    assert DilatedResNet(10, preactivation="False").settings["preactivation"] is False
    with pytest.raises(ValueError, match="preactivation is 'maybe', but must be true or false"):
        DilatedResNet(10, preactivation="maybe")
