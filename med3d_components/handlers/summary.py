"""What a terminal shows of a run before it starts, and of a training when it has ended."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn

from med3d_components.handlers.pictures import PICTURES
from med3d_components.utils.precision import choose_precision

__all__ = ["RunSummary"]

logger = logging.getLogger(__name__)


class RunSummary:
    """At the start: cases, classes, spacing, patch, network, precision and device; at the end of a training its result.

    Args:
        network: without a distributed wrapper.
        settings: of the training, see :mod:`med3d_components.settings`.
        precision: auto, bf16, fp16 or float32, see :func:`choose_precision`.
        device: that the network runs on.
        output_dir: folder of tables and pictures.
        ckpt_dir: of a training: folder of the model.
        run_dir: of a training: parent of checkpoints/.
        bundle_root: of a training: folder of the bundle, for the command that uses the model.
        evaluator: of a training: the engine that validates.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: Mapping[str, Any],
        precision: str,
        device: torch.device | str,
        output_dir: str | os.PathLike[str],
        ckpt_dir: str | os.PathLike[str] = "",
        run_dir: str | os.PathLike[str] = "",
        bundle_root: str | os.PathLike[str] = "",
        evaluator: Engine | None = None,
    ) -> None:
        self.network = network
        self.settings = settings
        self.precision = choose_precision(precision, device)
        self.device = torch.device(device)
        self.output_dir, self.ckpt_dir, self.run_dir = Path(output_dir), Path(ckpt_dir), Path(run_dir)
        self.bundle = Path(bundle_root)
        self.evaluator = evaluator
        self.start_time = 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or an evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        if self.evaluator is not None:
            engine.add_event_handler(Events.COMPLETED, self.report)

    def start(self, engine: Engine) -> None:
        """Print what is about to run."""
        if idist.get_rank() > 0:
            return
        self.start_time = time.perf_counter()
        if self.precision.warning:
            logger.warning("warning      %s", self.precision.warning)
        count = len(engine.data_loader.dataset)
        facts = {
            "cases": f"{count} to train, {len(self.evaluator.data_loader.dataset)} to validate"
            if self.evaluator
            else str(count),
            "classes": _classes(self.settings.get("classes")),
            "channels": _channels(self.settings.get("channel_names", ())),
            "spacing": _by_domain(self.settings.get("spacing"), " mm"),
            "patch": _by_domain(self.settings.get("roi_size"), " voxels"),
            "network": _network(self.network, self.settings["network"].get("depth")),
            "precision": f"{self.precision.name} ({self.precision.reason})",
            "device": _device(self.device),
            "results": f"{self.output_dir}, the model in {self.ckpt_dir}" if self.evaluator else str(self.output_dir),
        }
        if self.evaluator:
            facts["steps"] = f"{engine.state.epoch_length} an epoch, {engine.state.max_epochs} epochs"
            if made := engine.state.first_step:
                facts["resumed"] = f"after step {made} of epoch {engine.state.epoch + 1}"
            elif engine.state.epoch:
                facts["resumed"] = f"after epoch {engine.state.epoch}"
        _print(facts)

    def report(self, engine: Engine) -> None:
        """Print what a training has reached and where its results lie."""
        if idist.get_rank() > 0 or self.evaluator is None:
            return
        state = self.evaluator.state
        minutes, seconds = divmod(round(time.perf_counter() - self.start_time), 60)
        best = f"epoch {state.best_metric_epoch}, {state.key_metric_name} {state.best_metric:.4f}"
        last = state.keep_last or state.best_metric_epoch <= 0
        config = self.bundle / "configs" / "inference.json"
        place = "" if self.ckpt_dir == self.bundle / "models" else f" --ckpt_dir {self.ckpt_dir}"
        _print(
            {
                "trained": f"{engine.state.epoch} epochs in {minutes} min {seconds} s",
                "best": best if state.best_metric_epoch > 0 else "no epoch has a score",
                "model": f"{self.ckpt_dir / 'model.pt'}{', of the last epoch' * last}",
                "encoder": str(self.run_dir / "checkpoints" / "encoder.pt"),
                "tables": _existing(self.output_dir, ("metrics.csv", "cases.csv")),
                "pictures": _existing(self.output_dir, ("curves.png", *PICTURES)),
                "use it": f"python -m monai.bundle run inference --config_file {config}{place} --dataset_dir SCANS",
            }
        )


def _print(facts: Mapping[str, str]) -> None:
    for name, text in facts.items():
        if text:
            logger.info("%-12s %s", name, text)


def _existing(folder: Path, names: Iterable[str]) -> str:
    return ", ".join(str(folder / name) for name in names if (folder / name).is_file())


def _classes(classes: Mapping[str, Sequence[str]] | Sequence[str] | None) -> str:
    if isinstance(classes, Mapping):
        return _shorten([f"{name}: {', '.join(names)}" for name, names in classes.items()], "domains", "; ")
    return _shorten(classes or [], "classes")


def _channels(names: Sequence[str]) -> str:
    return _shorten(names, "channels") if len(names) > 1 else ""


def _by_domain(values: Any, unit: str) -> str:
    """Return three numbers, or one for all axes, of each domain that has others than the one before."""
    if values is None:
        return ""
    if isinstance(values, Mapping):
        return _shorten(list(dict.fromkeys(_by_domain(each, unit) for each in values.values())), "kinds")
    axes = values if isinstance(values, list | tuple) else [values] * 3
    return "x".join(f"{float(value):.4g}" for value in axes) + unit


def _shorten(parts: Sequence[str], what: str, separator: str = ", ", most: int = 4) -> str:
    text = separator.join(parts[:most])
    return text if len(parts) <= most else f"{text} and more, {len(parts)} {what} in all"


def _network(network: nn.Module, depth: int | None) -> str:
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    return f"{type(network).__name__}{f', depth {depth}' if depth else ''}, {millions:.1f} million parameters"


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"{device}, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else str(device)
