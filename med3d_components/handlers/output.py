"""What an inference writes: never over the results of an earlier one."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from med3d_components.utils import move_aside, write_json, write_table

__all__ = ["FreshOutput", "PredictionTable"]

logger = logging.getLogger(__name__)


class FreshOutput:
    """Before an inference writes, move the results of an earlier one to ``previous/N`` in their folder.

    Args:
        output_dir: folder of the results.
        patterns: of the names that the inference writes; other files stay where they are.
    """

    def __init__(self, output_dir: str | os.PathLike[str], patterns: Sequence[str]) -> None:
        self.folder = Path(output_dir)
        self.patterns = patterns

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.COMPLETED, self.report)

    def start(self) -> None:
        """Move earlier results aside."""
        earlier = [path for pattern in self.patterns for path in sorted(self.folder.glob(pattern))]
        if moved := move_aside(earlier, self.folder / "previous"):
            logger.info("Earlier results were moved to %s.", moved)

    def report(self) -> None:
        """Say where the results are."""
        logger.info("Results lie in %s.", self.folder)


class PredictionTable:
    """Write one row per classified case into ``predictions.csv`` and ``predictions.json``.

    Args:
        output_dir: folder of the tables.
        classes: names of the classes, in the order of the network's output.
        items: the cases as they are listed; a row repeats what its case has of ``keys``.
        keys: what identifies a case.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        classes: Sequence[str],
        items: Sequence[Mapping[str, Any]],
        keys: Sequence[str] = ("case", "patient", "image", "center_mm"),
    ) -> None:
        self.folder = Path(output_dir)
        self.classes = list(classes)
        self.cases = {item["case"]: {key: item[key] for key in keys if key in item} for item in items}
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def add(self, engine: Engine) -> None:
        """Add the cases of the last batch; "pred" holds their probabilities, one per class."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            scores = dict(zip(self.classes, output["pred"].tolist(), strict=True))
            probabilities = {f"probability of {name}": score for name, score in scores.items()}
            self.rows.append(
                {**self.cases[item["case"]], "prediction": max(scores, key=scores.__getitem__), **probabilities}
            )

    def write(self) -> None:
        """Write both tables."""
        write_table(self.folder / "predictions.csv", self.rows)
        write_json(self.folder / "predictions.json", self.rows)
