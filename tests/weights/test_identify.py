from __future__ import annotations

import pytest
import torch
from torch import nn

from med3d_components.weights.identify import adapt_stem, encoder_entries, fold_shortcut_biases


def test_folding_a_bias_leaves_the_function_unchanged_in_training_and_evaluation():
    torch.manual_seed(0)
    biased = nn.Sequential(nn.Conv3d(2, 3, 1), nn.BatchNorm3d(3))
    biased[1].running_mean.uniform_()
    folded, adapted = fold_shortcut_biases(biased.state_dict(prefix="layer2.0.downsample."))
    assert adapted == ["layer2.0.downsample.0.bias folded into layer2.0.downsample.1.running_mean"]
    plain = nn.Sequential(nn.Conv3d(2, 3, 1, bias=False), nn.BatchNorm3d(3))
    plain.load_state_dict({name.removeprefix("layer2.0.downsample."): x for name, x in folded.items()})
    x = torch.rand(2, 2, 3, 4, 5)
    torch.testing.assert_close(plain.eval()(x), biased.eval()(x))
    torch.testing.assert_close(plain.train()(x), biased.train()(x))


def test_folding_leaves_its_argument_alone():
    state = {"downsample.0.bias": torch.ones(1), "downsample.1.running_mean": torch.zeros(1)}
    fold_shortcut_biases(state)
    assert state == {"downsample.0.bias": 1, "downsample.1.running_mean": 0}


def test_a_bias_without_batchnorm_behind_it_stays_and_so_is_refused_later():
    state = {"layer2.0.downsample.0.bias": torch.ones(1)}
    assert fold_shortcut_biases(state) == (state, [])


@pytest.mark.parametrize(("old", "new"), [(3, 1), (1, 4), (4, 2)])
def test_the_response_to_equal_channels_survives_another_number_of_channels(old, new):
    weight = torch.rand(5, old, 3, 3, 3, dtype=torch.float64)
    state, adapted = adapt_stem({"conv1.weight": weight}, new)
    x = torch.rand(1, 1, 6, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(
        nn.functional.conv3d(x.expand(-1, new, -1, -1, -1), state["conv1.weight"]),
        nn.functional.conv3d(x.expand(-1, old, -1, -1, -1), weight),
    )
    assert len(adapted) == 1


@pytest.mark.parametrize("state", [{}, {"conv1.weight": torch.rand(5, 3, 3, 3, 3)}, {"conv1.weight": torch.ones(2)}])
def test_a_stem_that_fits_or_is_none_stays_as_it_is(state):
    assert adapt_stem(state, 3) == (state, [])


def test_heads_are_told_from_the_encoder():
    tensor = torch.ones(1)
    names = ("conv1.weight", "fc.bias", "conv_seg.3.weight")
    encoder, heads = encoder_entries(dict.fromkeys(names, tensor), {"conv1.weight"})
    assert (encoder, heads) == ({"conv1.weight": tensor}, ("fc.bias", "conv_seg.3.weight"))
    names = ("encoder.conv1.weight", "decoder.0.weight")
    encoder, heads = encoder_entries(dict.fromkeys(names, tensor), {"conv1.weight"})
    assert (encoder, heads) == ({"conv1.weight": tensor}, ("decoder.0.weight",))


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_what_the_network_has_of_a_u_net_is_no_head(prefix):
    names = ("down_tr64.a", "up_tr64.a", "out_tr.a")
    state = dict.fromkeys([f"{prefix}{name}" for name in names], torch.ones(1))
    for wanted in range(1, 4):
        encoder, heads = encoder_entries(state, names[:wanted])
        assert tuple(encoder) == names[:wanted]
        assert heads == names[wanted:]
