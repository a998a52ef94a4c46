"""The networks of all folds as one model: model.pt, settings.json and split.json, as a training leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from med3d_components.data.split_file import FILE, PARTS, read_split
from med3d_components.networks import build_network
from med3d_components.settings import read_settings
from med3d_components.utils import atomic_path, write_json

__all__ = ["write_ensemble"]

COARSE = "coarse."
"""How the entries of a cascade's coarse network begin, which all members share."""
OF_A_FOLD = ("fold", "roi_size", "volumes_ml")
"""Settings in which folds may differ: their cases are others."""


def write_ensemble(members: Sequence[Path], target: Path) -> Path:
    """Write one model of several trainings that differ in their cases alone.

    Args:
        members: folders of model.pt, settings.json and split.json.
        target: folder to write these three to. All cases of the members count as trained on.

    Returns:
        The model.pt that was written.

    Raises:
        FileNotFoundError: if a member lacks one of its files.
        ValueError: if members differ in their settings, or in their coarse network.
    """
    settings = _settings(members)
    network = build_network(settings["network"])
    network.load_state_dict(_state(members))
    write_json(target / "settings.json", settings)
    write_json(target / FILE, _split(members))
    with atomic_path(target / "model.pt") as temporary:
        torch.save(network.state_dict(), temporary)
    return target / "model.pt"


def _settings(members: Sequence[Path]) -> dict[str, Any]:
    """Return the settings that all have, with the number of networks."""
    first, *others = (dict(read_settings(member / "settings.json")) for member in members)
    for member, other in zip(members[1:], others, strict=True):
        for name in {**first, **other}:
            if name not in OF_A_FOLD and first.get(name) != other.get(name):
                raise ValueError(
                    f"{member} was trained with another {name} than {members[0]}, so they cannot be one model: "
                    f"{other.get(name)} and {first.get(name)}."
                )
    found = {**first, "network": {**first["network"], "members": len(members)}}
    if "fold" in first:
        found["fold"] = None
    if "volumes_ml" in first:
        found["volumes_ml"] = _volumes([each["volumes_ml"] for each in (first, *others)])
    # The largest volume of all may be in the fold that one of them was not trained on.
    found["roi_size"] = [max(sizes) for sizes in zip(*(each["roi_size"] for each in (first, *others)), strict=True)]
    return found


def _volumes(volumes: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Return the least and the largest volume of each class."""
    names = dict.fromkeys(name for each in volumes for name in each)
    known = {name: [each[name] for each in volumes if name in each] for name in names}
    return {name: [min(low for low, _ in each), max(high for _, high in each)] for name, each in known.items()}


def _state(members: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Return the entries of all networks, and once those of the coarse one."""
    found: dict[str, torch.Tensor] = {}
    for index, member in enumerate(members):
        for name, values in torch.load(member / "model.pt", map_location="cpu", weights_only=True).items():
            if not name.startswith(COARSE):
                found[f"members.{index}.{name}"] = values
            elif not torch.equal(found.setdefault(name, values), values):
                raise ValueError(f"{member} has another coarse network than {members[0]}; train all with one.")
    return found


def _split(members: Sequence[Path]) -> dict[str, Any]:
    """Return a split.json of what any member has trained or validated on."""
    splits = [_read(member / FILE) for member in members]
    ancestors: dict[str, dict[str, str]] = {}
    for split in splits:
        for name, cases in split["ancestors"].items():
            ancestors.setdefault(name, {}).update(cases)
    training = {case: digest for split in splits for part in PARTS for case, digest in split[part].items()}
    return {
        "trained_on": splits[0]["trained_on"],
        "training": dict(sorted(training.items())),
        "validation": {},
        "ancestors": ancestors,
    }


def _read(path: Path) -> dict[str, Any]:
    split = read_split(path)
    if split is None:
        raise FileNotFoundError(
            f"{path} does not exist, so it is not known which cases trained; train that fold again."
        )
    return split
