"""Load published weights into a network: all that was asked for, or an error and an untouched network."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

from med3d_components.networks.genesis import ContractingPath
from med3d_components.networks.resnet import DilatedResNet
from med3d_components.weights.cards import CARDS, WeightCard, find_card
from med3d_components.weights.identify import (
    adapt_stem,
    domain_mismatch,
    encoder_entries,
    fold_shortcut_biases,
    infer_settings,
    mismatch,
    stem_channels,
    unwrap,
)
from med3d_components.weights.read import WeightFile, download, read_weights

__all__ = ["LoadReport", "load_checkpoint", "load_encoder"]

logger = logging.getLogger(__name__)

MEDICALNET = ("medicalnet", "medicalnet_23")
KINETICS = "kinetics:"
GENESIS = "genesis:"
# What holds the weights that a source names.
ARCHITECTURE = {**dict.fromkeys((*MEDICALNET, KINETICS), "resnet"), GENESIS: "genesis"}
# Of the released MedicalNet code; the paper's text says 2 for both.
MEDICALNET_DILATIONS = (2, 4)


@dataclass(frozen=True)
class LoadReport:
    """What was loaded, from where, and what was not.

    Attributes:
        source: as the caller named it.
        path: the file that was read.
        sha256: of that file.
        matched: entries that were copied.
        missing: entries of the network that the file lacks.
        unexpected: entries of the file that the network lacks.
        dropped: entries of heads, which an encoder has no use for.
        adapted: what was changed on the way, in words.
        share: of the network's floating-point values that were copied, 0 to 1.
        training_sets: names of the data sets that the weights were trained on, as far as the file or its card states
            them; None if their publisher keeps them to himself.
    """

    source: str
    path: Path
    sha256: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    dropped: tuple[str, ...]
    adapted: tuple[str, ...]
    share: float
    training_sets: tuple[str, ...] | None = ()

    def __str__(self) -> str:
        """Return one readable block."""
        lines = {
            "file": str(self.path),
            "sha256": self.sha256,
            "adapted": "; ".join(self.adapted) or "nothing",
            "dropped": _summarise(self.dropped),
            "missing": _summarise(self.missing),
            "unexpected": _summarise(self.unexpected),
        }
        title = f"Loaded {self.source!r}: {_percent(self.share)} of the values, {len(self.matched)} entries."
        return "\n".join([title, *(f"  {name:<11} {text}" for name, text in lines.items())])


def load_encoder(network: nn.Module, source: str | os.PathLike[str], min_share: float = 1.0) -> LoadReport:
    """Load pre-trained weights into a network's encoder and log what was done.

    Recognised files: our ``encoder.pt`` and ``model.pt``, MedicalNet, MONAI's ResNet, Kinetics 3D-ResNets, and Models
    Genesis for a U-Net; written by ``torch.save``, PyTorch Lightning or safetensors. Names may carry what wrappers put
    in front of them, such as ``module.``, ``_orig_mod.``, ``model.``, ``net.``, also several of them. Heads are
    dropped, another number of input channels and other floating-point types are adapted; all of this is reported. The
    network changes only if all is well. Weights that must not be used commercially are warned of.

    Args:
        network: a :class:`DilatedResNet`, :class:`GenesisEncoder` or :class:`GenesisEncoderDecoder`, or a module that
            has one as ``encoder``; compiled or inside DataParallel, too.
        source: "medicalnet" or "medicalnet_23" (the published file of the network's depth, from the Hugging Face Hub
            or its local cache), "kinetics:FILE", "genesis:FILE", or the path of a file.
        min_share: share of the encoder's floating-point values that the file must provide. Below 1, missing and
            unexpected entries are reported instead of refused.

    Returns:
        What was loaded.

    Raises:
        FileNotFoundError: if the source is neither a file nor a name, or its file cannot be downloaded.
        ValueError: if the network has no such encoder, the file holds no weights, they do not fit, or some are NaN,
            infinite, complex or integers.

    Example:
        The published file is downloaded where it is not cached yet; a checkpoint is read where it lies.

        >>> import torch
        >>> encoder = DilatedResNet(depth=10)
        >>> load_encoder(encoder, "medicalnet")  # doctest: +SKIP
        >>> torch.save(encoder.state_dict(), "encoder.pt")
        >>> load_encoder(encoder, "encoder.pt").share
        1.0
    """
    if not 0 < min_share <= 1:
        raise ValueError(f"min_share is {min_share}, but must be above 0 and at most 1.")
    network, source = _inner(network), os.fspath(source)
    encoder = _find_encoder(network)
    if encoder is None:
        raise ValueError(
            f"A {type(network).__name__} has no DilatedResNet or GenesisEncoder as `encoder` to load weights into."
        )
    file = _read_source(source, encoder)
    own = encoder.state_dict()
    state, unwrapped, outside = unwrap(file.state, own, parts=("encoder",))
    state, dropped = encoder_entries({name: x for name, x in state.items() if name not in outside}, own)
    converted = _check_values(state, own, file.path)
    if source.startswith(KINETICS) and stem_channels(state) != 3:
        raise ValueError(f"{file.path} is no Kinetics file, since it has no RGB stem; give its path without {KINETICS}")
    state, folded = fold_shortcut_biases(state)
    state, fitted = adapt_stem(state, encoder.settings["in_channels"])
    problem = mismatch({**file.settings, **infer_settings(state)}, encoder.settings)
    report = _copy_entries(
        encoder,
        state,
        file,
        source,
        problem,
        min_share,
        (*dropped, *outside),
        (*unwrapped, *folded, *fitted, *converted),
    )
    logger.info("%s", report)
    card = _find_published(source, file)
    if card and card.non_commercial:
        logger.warning("%s holds weights with a licence of %s; read it at %s.", file.path, card.licence, card.page)
    return replace(report, training_sets=_training_sets(card, file))


def load_checkpoint(network: nn.Module, path: str | os.PathLike[str], part: str = "") -> LoadReport:
    """Load a whole network's state_dict, such as ``model.pt``, strictly, and log what was done.

    Args:
        network: any network; one with an encoder that :func:`load_encoder` takes gets the better error messages.
        path: of a state_dict, plain or inside a checkpoint; names may carry what wrappers put in front of them.
        part: name of the network in a larger one, whose checkpoint will do as well.

    Returns:
        What was loaded.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no weights, or an entry is missing, unexpected, of another shape, NaN, infinite,
            complex or integer where the network's is not; the network is unchanged then.

    Example:
        >>> import torch
        >>> from med3d_components.networks import Med3DNet
        >>> network = Med3DNet({"Task09_Spleen": 2}, depth=10)
        >>> torch.save(network.state_dict(), "model.pt")
        >>> load_checkpoint(network, "model.pt").share
        1.0
    """
    network, file = _inner(network), read_weights(Path(path))
    own = network.state_dict()
    state, unwrapped, _ = unwrap(file.state, own, parts=(part,) if part else ())
    file = replace(file, state=state)
    inner = {key.removeprefix(f"{part}."): value for key, value in file.state.items() if key.startswith(f"{part}.")}
    file = replace(file, state=inner or file.state)
    adapted = (*unwrapped, *_check_values(file.state, own, file.path))
    report = _copy_entries(network, file.state, file, str(path), _diagnose(network, file), adapted=adapted)
    logger.info("%s", report)
    return report


def _inner(network: Any) -> Any:
    """Return the network that is compiled or inside of DataParallel, under whose names its entries are."""
    while isinstance(network, DataParallel | DistributedDataParallel | OptimizedModule):
        network = network._orig_mod if isinstance(network, OptimizedModule) else network.module
    return network


def _find_encoder(network: nn.Module) -> DilatedResNet | ContractingPath | None:
    encoders = (DilatedResNet, ContractingPath)
    encoder = network if isinstance(network, encoders) else _inner(getattr(network, "encoder", None))
    return encoder if isinstance(encoder, encoders) else None


def _read_source(source: str, encoder: DilatedResNet | ContractingPath) -> WeightFile:
    """Find and read the file that a source stands for."""
    scheme = "".join(source.partition(":")[:2])
    named = {"architecture": ARCHITECTURE[scheme]} if scheme in ARCHITECTURE else {}
    if problem := mismatch(named, encoder.settings):
        raise ValueError(f"{source!r} does not fit: {problem}.")
    if source in MEDICALNET:
        card = _find_fitting_card(source, encoder.settings)
        return read_weights(download(card), card.sha256)
    path = Path(source.removeprefix(KINETICS).removeprefix(GENESIS)).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"Pre-trained weights {source!r} are neither an existing file nor one of {', '.join(MEDICALNET)}, "
            f"{KINETICS}FILE, {GENESIS}FILE: give one of these names or the path of a file."
        )
    return read_weights(path)


def _find_published(source: str, file: WeightFile) -> WeightCard | None:
    """Return the card of a file: by its name, or by a source that names the publisher."""
    cards = (card for card in CARDS if card.filename == file.path.name or source.startswith(f"{card.source}:"))
    return next(cards, None)


def _training_sets(card: WeightCard | None, file: WeightFile) -> tuple[str, ...] | None:
    """Return what the weights were trained on: from the file itself, else from its card."""
    if "trained_on" in file.settings:
        return tuple(file.settings["trained_on"])
    return card.training_sets if card else ()


def _find_fitting_card(source: str, settings: Mapping[str, Any]) -> WeightCard:
    """Return the published weights of the encoder's depth, before anything is downloaded in vain."""
    if settings["preactivation"]:
        raise ValueError(
            f"{source} has no pre-activation weights, nobody published any: train from scratch, or give "
            "the path of your own encoder.pt."
        )
    card = find_card(source, settings["depth"])
    problem = mismatch({"shortcut_type": card.shortcut_type, "dilations": MEDICALNET_DILATIONS}, settings)
    if problem:
        raise ValueError(f"{card.filename} of {source} does not fit: {problem}.")
    return card


def _diagnose(network: nn.Module, file: WeightFile) -> str | None:
    """Say in terms of the network's arguments why a file of a whole network does not fit, if that is the reason."""
    encoder = _find_encoder(network)
    if encoder is None:
        return None
    state, _ = encoder_entries(file.state, encoder.state_dict())
    settings = {**file.settings, **infer_settings(state)}
    whole = any(name.startswith("encoder.") for name in file.state)
    if settings and not whole and encoder is not network:
        return "the file holds an encoder alone: give it as pre-trained weights (load_encoder)"
    found, wanted = stem_channels(state), encoder.settings["in_channels"]
    if found not in (None, wanted):
        return f"the file has in_channels {found}, but the network {wanted}: build it with in_channels={found}"
    return mismatch(settings, encoder.settings) or domain_mismatch(file.state, network.state_dict())


def _check_values(state: Mapping[str, torch.Tensor], network: Mapping[str, torch.Tensor], path: Path) -> list[str]:
    """Refuse values that no network of floating-point numbers can have, and say which types are converted.

    Args:
        state: entries of the file, under the network's names where it has them.
        network: its entries, of the types that the file's are converted to.
        path: of the file.

    Raises:
        ValueError: if an entry is sparse, complex, of 8 bits, an integer where the network has none, NaN or infinite,
            also as the network's type has it, or a negative variance; names the first one.
    """
    bad: dict[str, list[str]] = {}
    types: Counter[tuple[str, str]] = Counter()
    for name, values in state.items():
        wanted = network[name].dtype if name in network else values.dtype
        if values.layout is not torch.strided or values.is_nested:
            bad.setdefault("sparse or nested tensors", []).append(name)
        elif values.is_complex():
            bad.setdefault("complex numbers", []).append(name)
        elif wanted.is_floating_point and not values.is_floating_point():
            bad.setdefault(f"{_type(values.dtype)} where the network has {_type(wanted)}", []).append(name)
        elif values.is_floating_point() and values.element_size() == 1:
            bad.setdefault(f"{_type(values.dtype)}, whose scale is unknown,", []).append(name)
        elif values.is_floating_point():
            # Numbers of the file's type may be too large for the network's.
            if not values.to(wanted if wanted.is_floating_point else values.dtype).isfinite().all():
                bad.setdefault("values that are NaN or infinite", []).append(name)
            # BatchNorm takes its root, so that the first output would be NaN.
            elif name.endswith("running_var") and (values < 0).any():
                bad.setdefault("negative variances", []).append(name)
            # Counters of batches are kept as numbers by some.
            if wanted.is_floating_point and values.dtype is not wanted:
                types[_type(values.dtype), _type(wanted)] += 1
    if bad:
        what, names = next(iter(bad.items()))
        count = f"{len(names)} {'entry' if len(names) == 1 else 'entries'}"
        raise ValueError(
            f"{path} holds {what} in {count}, the first of them {names[0]}, and the network is unchanged: give weights "
            "of a training that went well, as floating-point numbers."
        )
    return [f"{old} converted to {new} ({n} {'entry' if n == 1 else 'entries'})" for (old, new), n in types.items()]


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _copy_entries(
    module: nn.Module,
    state: Mapping[str, torch.Tensor],
    file: WeightFile,
    source: str,
    problem: str | None = None,
    min_share: float = 1.0,
    dropped: tuple[str, ...] = (),
    adapted: tuple[str, ...] = (),
) -> LoadReport:
    """Copy the entries of ``state``, which are under the module's own names, into a module if they fit it.

    Args:
        module: to copy into; unchanged if they do not fit.
        state: what ``file`` holds for the module.
        file: for the report and the error, as are ``source``, ``dropped`` and ``adapted``.
        source: as the caller named it.
        problem: what is known to differ between the file and the module, in words.
        min_share: share of the module's floating-point values, without BatchNorm's batch counters, that must match;
            below 1, what differs besides shapes is reported instead of refused.
        dropped: names of heads.
        adapted: what was changed on the way, in words.
    """
    network = module.state_dict()
    common = [name for name in network if name in state]
    matched = tuple(name for name in common if network[name].shape == state[name].shape)
    missing = tuple(name for name in network if name not in state)
    unexpected = tuple(name for name in state if name not in network)
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(network[name].shape)}"
        for name in common
        if network[name].shape != state[name].shape
    ]
    values = {name: tensor.numel() for name, tensor in network.items() if tensor.is_floating_point()}
    share = sum(values.get(name, 0) for name in matched) / sum(values.values())
    if share < min_share or reshaped or (min_share == 1 and (unexpected or problem)):
        parts = {
            f"{_percent(share)} of the network's values match": True,
            f"{len(reshaped)} of another shape: {', '.join(reshaped[:3])}": reshaped,
            f"missing: {_summarise(missing)}": missing,
            f"unexpected: {_summarise(unexpected)}": unexpected,
        }
        problem = problem or "; ".join(part for part, applies in parts.items() if applies)
        raise ValueError(f"{file.path} does not fit, and the network is unchanged: {problem}.")
    module.load_state_dict({name: state[name] for name in matched}, strict=False)
    adapted = (*adapted, problem) if problem else adapted
    if file.left_out:
        adapted = (*adapted, f"Python objects beside the weights left out: {', '.join(file.left_out)}")
    return LoadReport(source, file.path, file.sha256, matched, missing, unexpected, dropped, adapted, share)


def _summarise(names: Iterable[str]) -> str:
    """Say which modules' entries these are and how many, such as "fc (2 entries), layer1 (1 entry)"."""
    counts = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{name} ({n} {'entry' if n == 1 else 'entries'})" for name, n in counts.items()) or "none"


def _percent(share: float) -> str:
    """Write a share, rounded down so that only all is 100 %."""
    return f"{math.floor(1000 * share) / 10:.1f} %"
