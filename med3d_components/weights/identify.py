"""Tell from names and shapes what a file holds, bring it to an encoder's own, and say how it differs from a network."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from typing import Any

import torch
from monai.networks.nets.resnet import ResNetBottleneck

from med3d_components.networks.resnet import DEPTHS

__all__ = [
    "adapt_stem",
    "domain_mismatch",
    "encoder_entries",
    "fold_shortcut_biases",
    "infer_settings",
    "mismatch",
    "stem_channels",
    "unwrap",
]

State = dict[str, torch.Tensor]

# MedicalNet's demo decoder; the classifier of MONAI's and the Kinetics networks; expanding path and last layer of the
# Models Genesis U-Net.
HEADS = ("conv_seg.", "fc.", "up_tr", "out_tr.")
STEMS = ("conv1.weight", "down_tr64.ops.0.conv1.weight")
"""The first convolution of a ResNet and of a Models Genesis U-Net."""
WRAPPERS = ("module", "model", "net", "network", "backbone")
"""What training code puts in front of a network's names: DataParallel, and modules that hold the network."""
COMPILED = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch's own wrappers put there, or between two parts of a name."""
INSIDE = (*COMPILED, "module")
"""What may stand between two parts of a name, where a part of the network was wrapped, as by DataParallel."""
NAMES = {"resnet": "a ResNet", "genesis": "a Models Genesis U-Net"}
# The settings that decide whether the weights of a ResNet fit; in_channels can be adapted instead.
DECISIVE = ("depth", "shortcut_type", "dilations", "preactivation")


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


def unwrap(
    state: State, wanted: Collection[str], parts: Collection[str] = ()
) -> tuple[State, list[str], tuple[str, ...]]:
    """Take off what wrappers of the network put in front of its names, and torch's own inside of them.

    Of all runs of wrappers' names that the file's names begin with, the one that leaves most of the wanted names, and
    of several the shortest: nothing is taken off that the network itself has. Other names stay as they are.

    Args:
        state: entries of the file.
        wanted: names of the network's entries.
        parts: names of modules that the network may be in the file, and that stay, such as "encoder".

    Returns:
        The entries under their new names, what was taken off, in words, and the names of what is outside the wrapper.

    Example:
        >>> unwrap({"_orig_mod.model.a.weight": 1, "loss.weight": 2}, ["a.weight"])
        ({'a.weight': 1, 'loss.weight': 2}, ["prefix '_orig_mod.model.' taken off 1 name"], ('loss.weight',))
    """
    known = {*wanted, *(f"{part}.{name}" for part in parts for name in wanted)}
    said = []
    prefix = _find_prefix(state, known)
    outside = tuple(name for name in state if not name.startswith(prefix))
    renamed = {name: name.removeprefix(prefix) for name in state}
    if prefix and len(set(renamed.values())) == len(state):
        said.append(f"prefix {prefix!r} taken off {_count(len(state) - len(outside))}")
        state = {renamed[name]: x for name, x in state.items()}
    renamed = {name: name if name in known else _without_torchs_own(name, known) for name in state}
    count = sum(old != new for old, new in renamed.items())
    if count and len(set(renamed.values())) == len(state):
        said.append(f"{', '.join(filter(' '.join(state).__contains__, INSIDE))} taken out of {_count(count)}")
        state = {renamed[name]: x for name, x in state.items()}
    return state, said, outside


def _find_prefix(state: Collection[str], known: Container[str]) -> str:
    """Return the run of wrappers' names, each with its dot, that stands before most of the known names."""
    prefixes = {"": 0}
    for name in state:
        words = name.split(".")
        for count in range(len(words)):
            if not all(word in (*WRAPPERS, *COMPILED) for word in words[:count]):
                break
            prefix = "".join(f"{word}." for word in words[:count])
            rest = name.removeprefix(prefix)
            prefixes[prefix] = prefixes.get(prefix, 0) + (rest in known or _without_torchs_own(rest, known) in known)
    if any(prefixes.values()):
        return max(sorted(prefixes, key=len), key=prefixes.__getitem__)
    # Of another network; what stands before all of its names is none of its own.
    return max((prefix for prefix in prefixes if all(name.startswith(prefix) for name in state)), key=len)


def _without_torchs_own(name: str, known: Container[str]) -> str:
    first, *others = name.split(".")
    plain = ".".join([first, *(word for word in others if word not in INSIDE)])
    # A network may call a part of its own "module".
    return plain if plain in known else ".".join([first, *(word for word in others if word not in COMPILED)])


def _count(names: int) -> str:
    return f"{names} name" if names == 1 else f"{names} names"


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


def stem_channels(state: Mapping[str, torch.Tensor]) -> int | None:
    """Return the input channels of the stem, None if there is no 3D stem."""
    return state[stem].shape[1] if (stem := _find_stem(state)) else None


def adapt_stem(state: State, in_channels: int) -> tuple[State, list[str]]:
    """Fit the stem to another number of input channels.

    The weights are summed over the file's channels, which equals feeding each of them the same grey image, and
    divided evenly among the network's, so that the stem's response to equal channels stays as it was.
    """
    stem, channels = _find_stem(state), stem_channels(state)
    if stem is None or channels in (None, in_channels):
        return state, []
    adapted = state[stem].sum(dim=1, keepdim=True).expand(-1, in_channels, -1, -1, -1) / in_channels
    if channels == 1:
        return {**state, stem: adapted}, [f"{stem}: 1 channel repeated over {in_channels}, divided by {in_channels}"]
    old = "RGB" if channels == 3 else f"{channels} channels"
    return {**state, stem: adapted}, [f"{stem}: {old} summed, spread over {in_channels} channel(s)"]


def _find_stem(state: Mapping[str, torch.Tensor]) -> str | None:
    return next((name for name in STEMS if name in state and state[name].ndim == 5), None)


def infer_settings(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the architecture of an encoder's entries, and depth, shortcut type and pre-activation of a ResNet.

    Empty if they are of no known network. Dilations have no parameters and cannot be told.
    """
    if any(name.startswith("down_tr") for name in state):
        return {"architecture": "genesis"}
    blocks = tuple(len({name.split(".")[1] for name in state if name.startswith(f"layer{n}.")}) for n in range(1, 5))
    bottleneck = any(".conv3." in name for name in state)
    for depth, architecture in DEPTHS.items():
        if architecture.blocks == blocks and (architecture.block is ResNetBottleneck) == bottleneck:
            shortcut_type = "B" if any(".downsample." in name for name in state) else "A"
            preactivation = _is_preactivation(state)
            return {
                "architecture": "resnet",
                "depth": depth,
                "shortcut_type": shortcut_type,
                "preactivation": preactivation,
            }
    return {}


def mismatch(file: Mapping[str, Any], network: Mapping[str, Any]) -> str | None:
    """Say how a file's settings differ from a network's and what to set, or return None if they agree.

    Settings that the file does not state are taken to agree.
    """
    architecture = file.get("architecture", network["architecture"])
    if architecture != network["architecture"]:
        return (
            f"the file holds {NAMES.get(architecture, architecture)}, but the network is "
            f"{NAMES[network['architecture']]}: choose --architecture {architecture}, or give another file"
        )
    different = {key: file[key] for key in DECISIVE if key in file and _plain(file[key]) != _plain(network[key])}
    if architecture == "genesis" or not different:
        return None
    changes = ", ".join(f"{key}={_plain(value)!r}" for key, value in different.items())
    return (
        f"the file holds {_describe({**network, **file})}, but the network is {_describe(network)}: "
        f"build the network with {changes}, or give another file"
    )


def domain_mismatch(file: Mapping[str, torch.Tensor], network: Mapping[str, torch.Tensor]) -> str | None:
    """Name the domains that a file and a :class:`Med3DNet` do not share, or return None if all agree.

    Args:
        file: entries of the whole file.
        network: entries of the whole network.
    """
    in_file, in_network = _classes_by_domain(file), _classes_by_domain(network)
    if not in_file or not in_network:
        return None
    parts = []
    if missing := [name for name in in_network if name not in in_file]:
        parts.append(f"the file has no branch for {', '.join(missing)}")
    if unexpected := [name for name in in_file if name not in in_network]:
        parts.append(f"the network has no branch for {', '.join(unexpected)}")
    parts += [
        f"{name} has {in_file[name]} classes in the file and {classes} in the network"
        for name, classes in in_network.items()
        if in_file.get(name, classes) != classes
    ]
    return f"{'; '.join(parts)}: build the network with the file's domains {in_file}" if parts else None


def _is_preactivation(state: Mapping[str, torch.Tensor]) -> bool:
    """Look at a block's first BatchNorm: it has the width of the block's input, not of its first convolution."""
    norm, convolution = state.get("layer1.1.bn1.weight"), state.get("layer1.1.conv1.weight")
    return norm is not None and convolution is not None and len(norm) == convolution.shape[1] != len(convolution)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _describe(settings: Mapping[str, Any]) -> str:
    kind = "pre-activation ResNet" if settings["preactivation"] else "ResNet"
    dilations = " and ".join(map(str, settings["dilations"]))
    return f"a {kind}-{settings['depth']} with shortcut {settings['shortcut_type']} and dilations {dilations}"


def _classes_by_domain(state: Mapping[str, torch.Tensor]) -> dict[str, int]:
    names = [name for name in state if name.startswith("branches.") and name.endswith(".weight")]
    return {name.split(".")[1]: len(state[name]) for name in names}
