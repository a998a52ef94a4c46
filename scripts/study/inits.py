"""Where the networks of a study get their weights from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PRETRAINED_RATE", "SCRATCH_RATES", "Init", "Network", "list_networks", "parse_inits"]

SCRATCH_RATES = {"scratch": 1e-2, "scratch_0.001": 1e-3}
"""Label to learning rate. The paper trains from scratch at 0.01; the other tells what the rate alone explains."""
PRETRAINED_RATE = 1e-3

PUBLISHED = ("medicalnet", "medicalnet_23")
PREFIXES = ("kinetics:", "genesis:")
SYNTAX = "scratch, medicalnet, medicalnet_23, kinetics:FILE, genesis:FILE, or NAME=WEIGHTS for any weights or path"


@dataclass(frozen=True)
class Init:
    """One way to start a training.

    Attributes:
        label: its name in tables and folders.
        weights: value of the bundles' option pretrained_weights; "{depth}" in it stands for the network's depth.
        learning_rate: of the encoder.
    """

    label: str
    weights: str
    learning_rate: float = PRETRAINED_RATE

    @property
    def is_scratch(self) -> bool:
        """Tell whether there are no weights to start from."""
        return self.weights == "none"

    def fits(self, network: Network) -> bool:
        """Tell whether the weights are of the network's kind; scratch fits any."""
        return self.is_scratch or self.weights.startswith("genesis:") == ("architecture" in network.options)

    def find(self, network: Network) -> str | None:
        """Return the weights for a network; None if they name its depth and there is no such file.

        Raises:
            FileNotFoundError: if a file is not there whose name is the same for all depths.
        """
        weights = self.weights.replace("{depth}", str(network.options.get("depth", "")))
        if weights in ("none", *PUBLISHED):
            return weights
        prefix = next((prefix for prefix in PREFIXES if weights.startswith(prefix)), "")
        path = Path(weights.removeprefix(prefix)).expanduser().absolute()
        if path.is_file():
            return f"{prefix}{path}"
        if weights != self.weights:
            return None
        raise FileNotFoundError(f"{path}, the weights of {self.label}, does not exist; correct inits.")


@dataclass(frozen=True)
class Network:
    """A network of the comparison: its name in tables, and the options that make a bundle build it."""

    label: str
    options: Mapping[str, Any]


def parse_inits(inits: str | Sequence[str]) -> list[Init]:
    """Read a list of initialisations.

    Args:
        inits: entries, or these joined by commas: scratch, medicalnet, medicalnet_23, kinetics:FILE, genesis:FILE, or
            NAME=WEIGHTS with any of them or a path. "scratch" becomes two: at 0.01 and at 0.001.

    Raises:
        ValueError: for an entry without a name, an impossible name or one that is there twice.

    Example:
        >>> [init.label for init in parse_inits("scratch,med3d=runs/encoder.pt")]
        ['scratch', 'scratch_0.001', 'med3d']
    """
    entries = inits.split(",") if isinstance(inits, str) else [str(entry) for entry in inits]
    found = [init for entry in entries for init in _parse(entry.strip())]
    labels = [init.label for init in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"inits has {label} twice; give each entry a NAME= of its own.")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", label):
            raise ValueError(f"inits has the name {label!r}, but names are letters, digits, '_', '-' and '.'.")
    return found


def list_networks(inits: Sequence[Init], depths: Sequence[int], options: Mapping[str, Any]) -> list[Network]:
    """Return a ResNet of each depth, as far as an init is for it, and the U-Net of Models Genesis if one is for that.

    Args:
        inits: of the study.
        depths: of the ResNets.
        options: of the bundle; "preactivation" changes the names.
    """
    before = "Pre" if options.get("preactivation") else ""
    genesis = [init for init in inits if init.weights.startswith("genesis:")]
    resnets = [Network(f"{before}R{depth}", {"depth": int(depth)}) for depth in depths]
    for_resnets = [init for init in inits if init not in genesis and not init.is_scratch]
    unets = [Network("U-Net", {"architecture": "genesis"})] if genesis else []
    return [*(resnets if for_resnets or not genesis else []), *unets]


def _parse(entry: str) -> list[Init]:
    if entry == "scratch":
        return [Init(label, "none", rate) for label, rate in SCRATCH_RATES.items()]
    label, equals, weights = entry.partition("=")
    if equals and weights:
        return [Init(label, weights)]
    if entry in PUBLISHED or entry.startswith(PREFIXES):
        return [Init(entry.partition(":")[0], entry)]
    raise ValueError(f"inits has the entry {entry!r}, but entries are {SYNTAX}.")
