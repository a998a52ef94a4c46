"""Pictures of a validation: of a segmentation, a classification, a restoration."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from med3d_components.handlers.drawing import draw_cubes, draw_overlays, draw_restorations, draw_roc

__all__ = ["ClassificationPictures", "OverlayPictures", "RestorationPictures"]


class OverlayPictures:
    """After each validation: ``overlays.png`` with the first cases of each domain, in three planes.

    Args:
        output_dir: folder of the picture.
        cases: number of cases per domain.
    """

    def __init__(self, output_dir: str | os.PathLike[str], cases: int = 1) -> None:
        self.path = Path(output_dir) / "overlays.png"
        self.cases = cases
        self.counts: Counter[str] = Counter()
        self.shown: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep)
        engine.add_event_handler(Events.COMPLETED, self.draw)

    def start(self) -> None:
        """Forget the cases of the validation before."""
        self.counts, self.shown = Counter(), []

    def keep(self, engine: Engine) -> None:
        """Keep the first cases of each domain."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            domain = item.get("domain", "")
            if self.counts[domain] < self.cases:
                self.counts[domain] += 1
                volumes = {name: output[name][0].float().cpu() for name in ("image", "label", "pred")}
                self.shown.append({"title": f"{domain}: {item['case']}".removeprefix(": "), **volumes})

    def draw(self) -> None:
        """Draw the picture."""
        if idist.get_rank() == 0:
            draw_overlays(self.path, self.shown)


class ClassificationPictures:
    """After each validation: ``cubes.png``, what was classified, and ``roc.png``, how well.

    Args:
        output_dir: folder of the pictures.
        classes: names of the two classes, the positive one last.
        key_metric: name of the :class:`BinaryClassification`.
    """

    def __init__(self, output_dir: str | os.PathLike[str], classes: Sequence[str], key_metric: str = "val_auc") -> None:
        self.folder = Path(output_dir)
        self.classes = classes
        self.key_metric = key_metric
        self.slices: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: self.slices.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep)
        engine.add_event_handler(Events.COMPLETED, self.draw)

    def keep(self, engine: Engine) -> None:
        """Keep the middle axial slice of each cube."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            image = output["image"][0]
            middle = image.shape[2] // 2
            self.slices[item["case"]] = image[..., middle : middle + 1].float().cpu()

    def draw(self, engine: Engine) -> None:
        """Draw the pictures; the sheet shows what this process has seen."""
        if idist.get_rank() > 0:
            return
        rows, metrics = engine.state.metric_details[self.key_metric], engine.state.metrics
        cubes = [{**row, "image": self.slices[row["case"]]} for row in rows if row["case"] in self.slices]
        draw_cubes(self.folder / "cubes.png", cubes, self.classes)
        interval = (metrics[f"{self.key_metric}/low"], metrics[f"{self.key_metric}/high"])
        draw_roc(self.folder / "roc.png", rows, "ROC AUC", interval, self.classes)


class RestorationPictures:
    """After each validation: ``restored.png``, original, distorted and restored cubes.

    Args:
        output_dir: folder of the picture.
        cubes: number of cubes, the first of each case before its others.
    """

    def __init__(self, output_dir: str | os.PathLike[str], cubes: int = 6) -> None:
        self.path = Path(output_dir) / "restored.png"
        self.cubes = cubes
        self.shown: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: self.shown.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep)
        engine.add_event_handler(Events.COMPLETED, self.draw)

    def keep(self, engine: Engine) -> None:
        """Keep cubes, no more of a case than are to be drawn."""
        seen = Counter(cube["title"] for cube in self.shown)
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if seen[item["case"]] < self.cubes:
                volumes = {name: output[name][0].float().cpu() for name in ("image", "label", "pred")}
                self.shown.append({"title": item["case"], "turn": seen[item["case"]], **volumes})
                seen[item["case"]] += 1
        self.shown = sorted(self.shown, key=lambda cube: cube["turn"])[: self.cubes]

    def draw(self) -> None:
        """Draw the picture."""
        if idist.get_rank() == 0:
            draw_restorations(self.path, self.shown)
