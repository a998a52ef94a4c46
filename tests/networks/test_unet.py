"""The decoder with skip connections, and strides per axis."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from med3d_components.inferers import fuse_batch_norm
from med3d_components.networks import DECODERS, DilatedResNet, Med3DUNet, build_network

THICK = [[2, 2, 1], [2, 2, 1], [2, 2, 2]]
ASPP = {"roi_size": (32, 32, 32), "scaled": True, "rates": (1, 2), "bottleneck_channels": 8, "growth_channels": 4}
COARSE = {"task": "coarse", "num_classes": {"liver": 2}, "depth": 10}
TASKS: dict[str, dict[str, Any]] = {
    "segmentation": {"num_classes": 3},
    "domains": {"num_classes": {"a": 3, "b": 2}},
    "coarse": {"num_classes": {"liver": 3}},
    "cascade": {"num_classes": 3, "coarse": COARSE, **ASPP},
}


def network(task: str, decoder: str = "unet", **more: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_network({"task": task, "decoder": decoder, "depth": 10, **TASKS[task], **more})


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("strides", [None, THICK, [[1, 1, 1], [2, 1, 2], [2, 2, 2]]])
def test_any_size_is_mapped_to_its_own_whatever_the_strides(task: str, decoder: str, strides: Any) -> None:
    with torch.device("meta"):
        built = network(task, decoder, **({"strides": strides} if strides else {}))
        assert built(torch.zeros(1, 1, 17, 24, 9, device="meta")).shape == (1, 3, 17, 24, 9)


@pytest.mark.parametrize("task", TASKS)
def test_torchscript_computes_the_same(task: str) -> None:
    built = network(task)
    x = torch.rand(1, 1, 19, 16, 24)
    with torch.no_grad():
        assert torch.allclose(torch.jit.script(built)(x), built(x), atol=1e-5)


def test_a_decoder_starts_from_every_encoder_and_needs_no_weight_for_its_strides() -> None:
    encoder = DilatedResNet(10)
    for decoder in DECODERS:
        built: Any = network("segmentation", decoder, strides=THICK)
        assert built.encoder.load_state_dict(encoder.state_dict()).missing_keys == []
        assert built.settings["strides"] == THICK


def test_an_axis_that_is_not_halved_keeps_its_slices_apart() -> None:
    encoder = DilatedResNet(10, strides=((2, 2, 1), (2, 2, 1), (2, 2, 1))).eval()
    assert encoder.output_stride == (8, 8, 1)
    x = torch.zeros(1, 1, 32, 32, 9)
    with torch.no_grad():
        assert [tuple(m.shape[2:]) for m in encoder(x)] == [(16, 16, 9), (8, 8, 9), *[(4, 4, 9)] * 3]


def test_structures_stay_in_place() -> None:
    """A bright voxel answers where it is: moved by the stride, the answer moves as far."""
    built = network("segmentation").eval()
    x = torch.zeros(2, 1, 48, 48, 48)
    x[0, 0, 16:20, 20, 20] = x[1, 0, 24:28, 20, 20] = 100
    with torch.no_grad():
        one, other = (built(volume[None])[0] for volume in x)
    # Away from the border, whose padding tells the network where it is; InstanceNorm looks at the whole volume.
    assert torch.allclose(one[:, 12:24, 12:28, 12:28], other[:, 20:32, 12:28, 12:28], atol=0.05 * one.abs().max())


def test_deep_supervision_gives_smaller_logits_in_training_alone_and_gradients_to_all() -> None:
    built = network("segmentation", deep_supervision=True).train()
    logits: Any = built(torch.rand(2, 1, 32, 24, 16))
    assert [tuple(x.shape[2:]) for x in logits] == [(32, 24, 16), (16, 12, 8), (8, 6, 4)]
    sum(x.square().mean() for x in logits).backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for name, p in built.named_parameters() if "bn" not in name
    )
    assert built.eval()(torch.rand(2, 1, 32, 24, 16)).shape == (2, 3, 32, 24, 16)


def test_fusing_batch_norm_changes_nothing() -> None:
    built = network("segmentation")
    x = torch.rand(1, 1, 32, 24, 16)
    with torch.no_grad():
        assert torch.allclose(fuse_batch_norm(built)(x), built(x), atol=1e-4)


def test_settings_without_a_decoder_mean_the_paper() -> None:
    with torch.device("meta"):
        old = build_network({"task": "segmentation", "num_classes": 2, "depth": 10})
    assert type(old) is not Med3DUNet
    assert hasattr(old, "classifier")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"architecture": "genesis"},
            "decoder is 'unet', but the U-Net of Models Genesis has its own: leave --decoder",
        ),
        ({"decoder": "fpn"}, "decoder is 'fpn', but must be one of paper, unet"),
        ({"decoder": "paper", "deep_supervision": True}, "deep_supervision needs the levels of --decoder unet"),
        ({"strides": [[2, 2, 2], [2, 2, 2]]}, "strides is .+, but must be three lists"),
        ({"strides": [[2, 2, 4], [2, 2, 2], [2, 2, 2]]}, "strides is .+, but must be three lists"),
    ],
)
def test_what_does_not_go_together_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network("segmentation", **more)
