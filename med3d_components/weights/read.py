"""Fetch weight files and read any published layout into plain names and tensors; never run code that a file holds."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from med3d_components.utils.files import file_digest
from med3d_components.weights.cards import WeightCard

__all__ = ["WeightFile", "download", "read_weights"]

# Where checkpoints keep their network: most publishers, Lightning and our encoder.pt; PyTorch's tutorials; MONAI's
# CheckpointSaver; our last.pt; other people's.
STATE_KEYS = ("state_dict", "model_state_dict", "model", "network", "net")

SAVE_ALONE = "save its state_dict alone, by torch.save(network.state_dict(), FILE), and give that file"

# First bytes of a file: what it is, and what to do.
BEGINNINGS = {
    b"<": "is a web page, not weights; download the file itself, not the page that shows it.",
    b"version https://git-lfs": "is a Git LFS pointer, not weights; fetch the file itself with `git lfs pull`.",
    b"\x89HDF\r\n\x1a\n": f"is a HDF5 file, such as Keras writes; load it there, and with PyTorch {SAVE_ALONE}.",
    b"\x93NUMPY": f"is a NumPy array, which has no names; {SAVE_ALONE}.",
    b"\x1f\x8b": "is compressed by gzip; unpack it, and give the file of weights that is in it.",
    b"7z\xbc\xaf": "is an archive of 7-Zip; unpack it, and give the file of weights that is in it.",
    b"Rar!": "is a RAR archive; unpack it, and give the file of weights that is in it.",
    b"{": "is a JSON file, not weights; give the file of weights beside it, such as model.safetensors.",
}
# And what has no such beginning, by its name.
ENDINGS = {
    r"\.onnx": f"is an ONNX file; give the checkpoint that it was exported from, or {SAVE_ALONE}.",
    r"\.ckpt(-\d+)?\.(index|meta|data-\d+-of-\d+)|\.pb|\.tflite": (
        f"is of a TensorFlow checkpoint; load it there, and with PyTorch {SAVE_ALONE}."
    ),
}
OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""Beginning of a file of ``torch.save`` before PyTorch 1.6, which is a pickle, too."""

OLD_TAR = "is a tar file of PyTorch 0.1; load it with an old PyTorch where you trust its origin, and "


@dataclass(frozen=True)
class WeightFile:
    """The content of a weight file.

    Attributes:
        path: of the file.
        sha256: of the file.
        state: tensors by name, as the file has them.
        settings: of the encoder, as far as the file states them.
        left_out: classes of Python objects beside the weights, which were not made.
    """

    path: Path
    sha256: str
    state: dict[str, torch.Tensor]
    settings: dict[str, Any]
    left_out: tuple[str, ...] = ()


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
    """Read a file that holds a state_dict, plain or under one of ``STATE_KEYS``, at any depth.

    Of objects beside the weights, such as the hyper-parameters that Lightning pickles, none is made: what stands for
    them is empty.

    Args:
        path: of a file written by ``torch.save`` or safetensors.
        sha256: that the file must have, if it is known.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if its sha256 is another, or it is not a file of weights: damaged, empty, a web page, an archive or
            a file of another program, which is named, or a pickle of other objects than tensors and basic types.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the file of weights that is in it.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file {path}.")
    digest = file_digest(path)
    if sha256 not in (None, digest):
        raise ValueError(
            f"{path} has the sha256 {digest}, but its weight card says {sha256}: the file is damaged or another one. "
            "Download it again, or give its path if it is the one you want."
        )
    if _is_safetensors(path):
        try:
            return WeightFile(path, digest, _find_state(load_file(path), path), {})
        except Exception as error:  # a damaged file can fail anywhere in the reader
            raise ValueError(f"{path} is a damaged safetensors file; download or save it again.") from error
    if other := _name_other(path):
        raise ValueError(f"{path} {other}")
    content, left_out, refusal = _read(path)
    try:
        state = _find_state(content, path)
    except ValueError as error:
        if refusal:
            # What is missing may be in an object that was left out.
            raise refusal from error
        raise
    settings = content.get("settings")
    return WeightFile(path, digest, state, dict(settings) if isinstance(settings, Mapping) else {}, left_out)


def _is_safetensors(path: Path) -> bool:
    """Tell a file by its beginning: the length of a header, and that header, in JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


def _name_other(path: Path) -> str | None:
    """Say what a file is that holds no weights of PyTorch, and what to do, or return None if it may hold some."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head.strip():
        return "is empty; download or save it again."
    for beginning, what in BEGINNINGS.items():
        if head.startswith(beginning) or (beginning.isascii() and head.lstrip().startswith(beginning)):
            return what
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _name_zip(archive.namelist())
    # The ends of tar files of other programs are not looked for: any bytes may look like an old one.
    if head[257:262] == b"ustar":
        with tarfile.open(path) as archive:
            names = archive.getnames()
        if {"storages", "tensors", "pickle"} <= set(names):
            return f"{OLD_TAR}{SAVE_ALONE}."
        return f"is a tar archive ({_first(names)}); unpack it, and give the file of weights that is in it."
    return next((what for ending, what in ENDINGS.items() if re.search(f"({ending})$", path.name)), None)


def _name_zip(names: list[str]) -> str | None:
    """Say what a zip holds besides a file of ``torch.save``."""
    ends = {name.rsplit("/", 1)[-1] for name in names}
    if any("/code/" in name for name in names) or "constants.pkl" in ends:
        return "is a TorchScript archive; give the state_dict it was exported from, such as model.pt."
    if "data.pkl" in ends:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return f"holds arrays of NumPy (.npz); make tensors of them, and {SAVE_ALONE}."
    if "model.weights.h5" in ends:
        return f"is a Keras model; load it there, and with PyTorch {SAVE_ALONE}."
    if "archive_format" in ends:
        return "is a program of torch.export (.pt2); give the state_dict it was exported from, such as model.pt."
    if "metadata.json" in ends and any("configs/" in name for name in names):
        weights = sorted((name for name in names if name.endswith((".pt", ".pth", ".safetensors"))), key=len)
        return f"is the zip of a bundle; unpack it, and give {weights[0] if weights else 'a file of weights'}."
    return f"is a zip archive ({_first(names)}); unpack it, and give the file of weights that is in it."


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "") or "empty"


class _Nothing:
    """Stands for a class of objects that a file holds beside its weights: makes empty mappings of them."""

    def __new__(cls, *arguments: Any) -> Any:
        # torch's reader fills no other mapping than its own kinds.
        return OrderedDict()


class _Object:
    """The same for objects with a state that no mapping has."""

    def __new__(cls, *arguments: Any) -> _Object:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Forget it."""


def _read(path: Path) -> tuple[Mapping[Any, Any], tuple[str, ...], ValueError | None]:
    """Unpickle tensors and basic types alone; tell apart the ways in which that can fail.

    Returns:
        The content, the classes of other objects, which are empty in it, and why it would be refused for them.
    """
    refusal: ValueError | None = None
    left_out: tuple[str, ...] = ()
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in the reader; that it can be read is known by now
        refusal = ValueError(f"{path} {_explain(str(error), path)}")
        content, left_out = _read_beside(path)
        if content is None:
            raise refusal from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state_dict; save network.state_dict().")
    return content, left_out, refusal


def _read_beside(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read a file with other objects than tensors and basic types, which are left out; None where that cannot be."""
    try:
        names = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # it is no file of torch.save, or an old one
        return None, ()
    for stand_in in (_Nothing, _Object):
        try:
            # Under these names the reader finds the stand-in and imports nothing.
            with safe_globals([(stand_in, name) for name in names]):
                return torch.load(path, map_location="cpu", weights_only=True), tuple(names)
        except Exception:  # the other one may do
            continue
    return None, ()


def _explain(message: str, path: Path) -> str:
    """Turn torch's message into one line."""
    if "legacy .tar format" in message:
        return f"{OLD_TAR}{SAVE_ALONE}."
    if found := re.search(r"(?:GLOBAL|class) (\S+)", message):
        return (
            f"holds a Python object ({found[1]}) besides tensors and basic types, and is not read because such a file "
            "can run code; if you trust its origin, save its state_dict alone and give that file."
        )
    with path.open("rb") as file:
        head = file.read(len(OLD_MAGIC))
        file.seek(-1, os.SEEK_END)
        end = file.read()
    if head.startswith(b"\x80") and head != OLD_MAGIC and end == b".":
        return f"is a pickle that torch.save did not write; {SAVE_ALONE}."
    return "is damaged, cut short or not written by torch.save; download or save it again."


def _find_state(content: Mapping[Any, Any], path: Path) -> dict[str, torch.Tensor]:
    """Return the state_dict of a checkpoint, which is the content itself or one of its entries, or of theirs."""
    state = content
    while inner := next((state[key] for key in STATE_KEYS if isinstance(state.get(key), Mapping)), None):
        state = inner
    if not state or inner is not None:
        raise ValueError(f"{path} holds no weights: its state_dict is empty.")
    if not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()):
        raise ValueError(
            f"{path} holds no state_dict: it has the entries {', '.join(map(str, list(content)[:5]))}; "
            f"expected tensors by name, or these under {' or '.join(STATE_KEYS)}."
        )
    return dict(state)
