"""Compare a file's entries with a network's, and copy them all or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from med3d_components.weights.read import WeightFile
from med3d_components.weights.report import LoadReport, percent, summarise

__all__ = ["Fit", "compare", "copy_entries"]

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Fit:
    """How a file's entries fit a network; ``share`` counts floating-point values, not BatchNorm's batch counters."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    share: float

    def __str__(self) -> str:
        """Name the problems on one line."""
        parts = [f"{percent(self.share)} of the network's values match"]
        if self.reshaped:
            parts.append(f"{len(self.reshaped)} of another shape: {', '.join(self.reshaped[:3])}")
        if self.missing:
            parts.append(f"missing: {summarise(self.missing)}")
        if self.unexpected:
            parts.append(f"unexpected: {summarise(self.unexpected)}")
        return "; ".join(parts)


def compare(network: State, file: State) -> Fit:
    """Sort the entries of a network and a file by whether they have a counterpart of the same shape."""
    common = [name for name in network if name in file]
    matched = [name for name in common if network[name].shape == file[name].shape]
    values = {name: tensor.numel() for name, tensor in network.items() if tensor.is_floating_point()}
    return Fit(
        matched=tuple(matched),
        missing=tuple(name for name in network if name not in file),
        unexpected=tuple(name for name in file if name not in network),
        reshaped=tuple(
            f"{name} {tuple(file[name].shape)} instead of {tuple(network[name].shape)}"
            for name in common
            if network[name].shape != file[name].shape
        ),
        share=sum(values.get(name, 0) for name in matched) / sum(values.values()),
    )


def copy_entries(
    module: nn.Module,
    state: State,
    file: WeightFile,
    source: str,
    problem: str | None = None,
    min_share: float = 1.0,
    dropped: tuple[str, ...] = (),
    adapted: tuple[str, ...] = (),
) -> LoadReport:
    """Copy the entries of ``state`` into a module if they fit it.

    Args:
        module: to copy into.
        state: entries under the module's own names.
        file: that they come from.
        source: as the caller named it.
        problem: what is known to differ between the file and the module, in words.
        min_share: share of the module's values that must match; below 1, what differs besides shapes is reported
            instead of refused.
        dropped: for the report.
        adapted: for the report.

    Raises:
        ValueError: if they do not fit; the module is unchanged then.
    """
    fit = compare(module.state_dict(), state)
    differs = min_share == 1 and (fit.unexpected or problem)
    if fit.share < min_share or fit.reshaped or differs:
        raise ValueError(f"{file.path} does not fit, and the network is unchanged: {problem or fit}.")
    module.load_state_dict({name: state[name] for name in fit.matched}, strict=False)
    adapted = (*adapted, problem) if problem else adapted
    return LoadReport(
        source, file.path, file.sha256, fit.matched, fit.missing, fit.unexpected, dropped, adapted, fit.share
    )
