"""Weights that an engine starts with: an encoder's that was pre-trained, or a whole checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from med3d_components.utils import as_flag
from med3d_components.weights import load_checkpoint, load_encoder
from med3d_components.weights.overlap import describe_overlap

__all__ = ["PretrainedEncoder", "StrictCheckpointLoader"]

logger = logging.getLogger(__name__)


class PretrainedEncoder:
    """Load pre-trained weights into a network's encoder when a fresh training starts.

    A resumed training goes on from its own checkpoint. Warns if the weights may have seen the data. What was loaded is
    in the engine's ``state.pretrained``.

    Args:
        network: that :func:`load_encoder` takes, without a distributed wrapper.
        source: what :func:`load_encoder` takes, or "none".
        dataset: name of the data set, or names, that the training is on.
        resume: whether the training is resumed.
    """

    def __init__(
        self, network: nn.Module, source: str | None, dataset: str | list[str], resume: bool | str = False
    ) -> None:
        self.network = network
        self.source = None if str(source).lower() == "none" else str(source)
        self.datasets = [dataset] if isinstance(dataset, str) else dataset
        self.resume = as_flag("resume", resume)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self, engine: Engine) -> None:
        """Load the weights."""
        if self.source is None or self.resume:
            return
        engine.state.pretrained = report = load_encoder(self.network, self.source)
        for dataset in self.datasets:
            if overlap := describe_overlap(report, dataset):
                logger.warning("%s", overlap)


class StrictCheckpointLoader:
    """Load a checkpoint when the engine starts, all of it or nothing, with a readable error.

    Args:
        path: of the checkpoint.
        network: that takes its weights.
        settings: of the checkpoint's training, see :mod:`med3d_components.settings`; the default of a config, which
            only builds a network, names no bundle.

    Raises:
        FileNotFoundError: when the engine starts, if the settings are not those of a training: a network and a
            preprocessing that were guessed give wrong results without a word.
    """

    def __init__(self, path: str | os.PathLike[str], network: nn.Module, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.network = network
        self.settings = settings

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self) -> None:
        """Load the weights."""
        if self.path.is_file() and "bundle" not in self.settings:
            raise FileNotFoundError(
                f"{self.path} has no settings.json beside it, which the training wrote with it: without, neither the "
                "network nor the preprocessing is known. Put it there."
            )
        load_checkpoint(self.network, self.path)
