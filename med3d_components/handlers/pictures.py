"""Pictures of the network that is kept: of a segmentation, a classification, a restoration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine

from med3d_components.handlers.base import CaseCollector
from med3d_components.handlers.drawing import draw_cubes, draw_overlays, draw_restorations, draw_roc

__all__ = ["PICTURES", "ClassificationPictures", "OverlayPictures", "RestorationPictures"]

PICTURES = ("overlays.png", "cubes.png", "roc.png", "restored.png")
"""Names of all pictures that validations leave."""


class OverlayPictures(CaseCollector):
    """After a validation: ``overlays.png`` with the first cases of each domain, in three planes.

    Args:
        output_dir: folder of the picture.
        cases: number of cases per domain.
        classes: names, background first, of all domains or of each one.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        cases: int = 1,
        classes: Sequence[str] | Mapping[str, Sequence[str]] = (),
    ) -> None:
        super().__init__()
        self.path = Path(output_dir) / "overlays.png"
        self.cases = cases
        self.classes = classes

    def keep(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Keep the first cases of each domain."""
        domain = item.get("domain", "")
        if sum(case["domain"] == domain for case in self.kept) < self.cases:
            title = f"{domain}: {item['case']}".removeprefix(": ")
            classes = self.classes[domain] if isinstance(self.classes, Mapping) else self.classes
            self.kept.append({"title": title, "domain": domain, "classes": classes, **_volumes(output)})

    def write(self, engine: Engine) -> None:
        """Draw the picture."""
        draw_overlays(self.path, self.kept)


class ClassificationPictures(CaseCollector):
    """After a validation: ``cubes.png``, what was classified, and ``roc.png``, how well.

    Args:
        output_dir: folder of the pictures.
        classes: names of the two classes, the positive one last.
        key_metric: name of the :class:`BinaryClassification`.
    """

    def __init__(self, output_dir: str | os.PathLike[str], classes: Sequence[str], key_metric: str = "val_auc") -> None:
        super().__init__()
        self.folder = Path(output_dir)
        self.classes = classes
        self.key_metric = key_metric

    def keep(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Keep the middle axial slice of each cube."""
        image = output["image"][0]
        middle = image.shape[2] // 2
        self.kept.append({"case": item["case"], "image": image[..., middle : middle + 1].float().cpu()})

    def write(self, engine: Engine) -> None:
        """Draw the pictures; the sheet shows what this process has seen."""
        rows, metrics = engine.state.metric_details[self.key_metric], engine.state.metrics
        slices = {cube["case"]: cube["image"] for cube in self.kept}
        cubes = [{**row, "image": slices[row["case"]]} for row in rows if row["case"] in slices]
        draw_cubes(self.folder / "cubes.png", cubes, self.classes)
        interval = (metrics[f"{self.key_metric}/low"], metrics[f"{self.key_metric}/high"])
        draw_roc(self.folder / "roc.png", rows, "ROC AUC", interval, self.classes)


class RestorationPictures(CaseCollector):
    """After a validation: ``restored.png``, original, distorted and restored cubes.

    Args:
        output_dir: folder of the picture.
        cubes: number of cubes, the first of each case before its others.
    """

    def __init__(self, output_dir: str | os.PathLike[str], cubes: int = 6) -> None:
        super().__init__()
        self.path = Path(output_dir) / "restored.png"
        self.cubes = cubes

    def keep(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Keep cubes, no more than are to be drawn."""
        turn = sum(cube["title"] == item["case"] for cube in self.kept)
        if turn < self.cubes:
            self.kept.append({"title": item["case"], "turn": turn, **_volumes(output)})
            self.kept = sorted(self.kept, key=lambda cube: cube["turn"])[: self.cubes]

    def write(self, engine: Engine) -> None:
        """Draw the picture."""
        draw_restorations(self.path, self.kept)


def _volumes(output: Mapping[str, Any]) -> dict[str, Any]:
    return {name: output[name][0].float().cpu() for name in ("image", "label", "pred")}
