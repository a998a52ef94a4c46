"""Bring the entries of a published file to the names and shapes of an encoder."""

from __future__ import annotations

from collections.abc import Container

import torch

__all__ = ["adapt_stem", "encoder_entries", "fold_shortcut_biases", "stem_channels"]

State = dict[str, torch.Tensor]

# MedicalNet's demo decoder; the classifier of MONAI's and the Kinetics networks; expanding path and last layer of the
# Models Genesis U-Net.
HEADS = ("conv_seg.", "fc.", "up_tr", "out_tr.")
STEM = "conv1.weight"


def encoder_entries(state: State, wanted: Container[str]) -> tuple[State, tuple[str, ...]]:
    """Split a file's entries into those of the encoder, under its own names, and the names of the heads.

    A file with entries ``encoder.*`` is of a whole network, and everything else in it is a head.

    Args:
        state: entries of the file.
        wanted: names of the encoder's entries; part of a U-Net is the encoder of one network and a head of another.
    """
    prefix = "encoder." if any(name.startswith("encoder.") for name in state) else ""
    encoder = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    heads = [name for name in encoder if name.startswith(HEADS) and name not in wanted]
    others = [name for name in state if not name.startswith(prefix)]
    return {name: x for name, x in encoder.items() if name not in heads}, (*heads, *others)


def fold_shortcut_biases(state: State) -> tuple[State, list[str]]:
    """Move the biases of MONAI's shortcut convolutions into the BatchNorm behind them.

    BatchNorm subtracts its running mean, so that a bias added before it and one subtracted from the mean are the same.
    """
    state = dict(state)
    adapted = []
    for name in [name for name in state if name.endswith("downsample.0.bias")]:
        mean = name.replace("downsample.0.bias", "downsample.1.running_mean")
        if mean in state:
            state[mean] = state[mean] - state.pop(name)
            adapted.append(f"{name} folded into {mean}")
    return state, adapted


def stem_channels(state: State) -> int | None:
    """Return the input channels of the stem, None if there is no 3D stem."""
    return state[STEM].shape[1] if STEM in state and state[STEM].ndim == 5 else None


def adapt_stem(state: State, in_channels: int) -> tuple[State, list[str]]:
    """Fit the stem to another number of input channels.

    The weights are summed over the file's channels, which equals feeding each of them the same grey image, and
    divided evenly among the network's, so that the stem's response to equal channels stays as it was.
    """
    channels = stem_channels(state)
    if channels in (None, in_channels):
        return state, []
    adapted = state[STEM].sum(dim=1, keepdim=True).expand(-1, in_channels, -1, -1, -1) / in_channels
    old = "RGB" if channels == 3 else f"{channels} channel(s)"
    return {**state, STEM: adapted}, [f"{STEM}: {old} summed, spread over {in_channels} channel(s)"]
