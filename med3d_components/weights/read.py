"""Fetch weight files and read any published layout into plain names and tensors; never run code that a file holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download

from med3d_components.utils.files import file_digest
from med3d_components.weights.cards import WeightCard

__all__ = ["WeightFile", "download", "read_weights"]

# Where checkpoints keep their network: most publishers and our encoder.pt, MONAI's CheckpointSaver, our last.pt.
STATE_KEYS = ("state_dict", "model", "network")


@dataclass(frozen=True)
class WeightFile:
    """The content of a weight file.

    Attributes:
        path: of the file.
        sha256: of the file.
        state: tensors by name, without the ``module.`` that DataParallel puts in front.
        settings: of the encoder, as far as the file states them.
    """

    path: Path
    sha256: str
    state: dict[str, torch.Tensor]
    settings: dict[str, Any]


def download(card: WeightCard) -> Path:
    """Return the local path of a card's file, downloading it if it is not in the Hub's cache.

    Raises:
        FileNotFoundError: if it is not cached and cannot be downloaded; says what to download by hand.
    """
    try:
        return Path(hf_hub_download(card.repo_id, card.filename, revision=card.revision))
    except Exception as error:  # which classes mean "no network" changes with the Hub's HTTP library
        raise FileNotFoundError(
            f"{card.filename} of {card.repo_id} is not cached and could not be downloaded ({type(error).__name__}); "
            f"download {card.url} by hand and give the file's path instead of {card.source!r}."
        ) from error


def read_weights(path: Path, sha256: str | None = None) -> WeightFile:
    """Read a file that holds a state_dict, plain or under one of ``STATE_KEYS``.

    Args:
        path: of a file written by ``torch.save``.
        sha256: that the file must have, if it is known.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if its sha256 is another, or it is not a file of weights: damaged, empty, a web page, a
            TorchScript archive, or a pickle of other objects than tensors and basic types.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file {path}.")
    digest = file_digest(path)
    if sha256 not in (None, digest):
        raise ValueError(
            f"{path} has the sha256 {digest}, but its weight card says {sha256}: the file is damaged or another one. "
            "Download it again, or give its path if it is the one you want."
        )
    content = _read(path)
    state = _find_state(content, path)
    settings = content.get("settings")
    return WeightFile(path, digest, _strip_module(state), dict(settings) if isinstance(settings, Mapping) else {})


def _read(path: Path) -> Mapping[Any, Any]:
    """Unpickle tensors and basic types alone; tell apart the ways in which that can fail."""
    with path.open("rb") as file:
        head = file.read(64).lstrip()
    if not head:
        raise ValueError(f"{path} is empty; download or save it again.")
    if head.startswith(b"<"):
        raise ValueError(f"{path} is a web page, not weights; download the file itself, not the page that shows it.")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a Git LFS pointer, not weights; fetch the file itself with `git lfs pull`.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in the reader; that it can be read is known by now
        raise ValueError(f"{path} {_explain(str(error))}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state_dict; save network.state_dict().")
    return content


def _explain(message: str) -> str:
    """Turn torch's message into one line."""
    if "TorchScript" in message:
        return "is a TorchScript archive; give the state_dict it was exported from, such as model.pt."
    if found := re.search(r"(?:GLOBAL|class) (\S+)", message):
        return (
            f"holds a Python object ({found[1]}) besides tensors and basic types, and is not read because such a file "
            "can run code; if you trust its origin, save its state_dict alone and give that file."
        )
    return "is damaged, cut short or not written by torch.save; download or save it again."


def _find_state(content: Mapping[Any, Any], path: Path) -> dict[str, torch.Tensor]:
    """Return the state_dict of a checkpoint, which is the content itself or one of its entries."""
    state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    if not state:
        raise ValueError(f"{path} holds no weights: its state_dict is empty.")
    if not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()):
        raise ValueError(
            f"{path} holds no state_dict: it has the entries {', '.join(map(str, list(content)[:5]))}; "
            f"expected tensors by name, or these under {' or '.join(STATE_KEYS)}."
        )
    return dict(state)


def _strip_module(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove a leading ``module.``, and only a leading one: it may be part of a name further on."""
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}
