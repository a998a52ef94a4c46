"""The formulas that fill a network and its input in the parity files of tests/golden."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)
GOLDEN, GENESIS = (
    json.loads((Path(__file__).parents[1] / "golden" / f"{name}_parity.json").read_text("utf-8"))
    for name in ("medicalnet_encoder", "genesis_unet3d")
)


def wave(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return sin(i * 0.7310585 + phase) over all elements i in C order, in float64, its phase given by the name.

    The angle is split into that of a row and that of a column, whose sine is a product of two thin matrices:
    several times as fast as a sine of each, which counts for the 127 million weights of a ResNet-200.
    """
    size, width = math.prod(shape), 1024
    rows = torch.arange(0, size, width, dtype=torch.float64) * 0.7310585 + crc32(name.encode()) % 9973
    columns = torch.arange(min(size, width), dtype=torch.float64) * 0.7310585
    sine = torch.stack([rows.sin(), rows.cos()], 1) @ torch.stack([columns.cos(), columns.sin()])
    return sine.flatten()[:size].reshape(shape)


def formula(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the value of a state_dict entry."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if len(shape) >= 4:
        return wave(name, shape).mul_(math.sqrt(4 / math.prod(shape[1:])))
    if name.endswith("running_var"):
        return 1 + 0.5 * wave(name, shape)
    if name.endswith(("running_mean", "bias")):
        return 0.1 * wave(name, shape)
    return 0.5 + 0.1 * wave(name, shape)


def fill(network: Network) -> Network:
    """Put a network, which may be on the meta device, into eval mode and float64 with the formulas' weights."""
    state = {name: formula(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network.eval()
