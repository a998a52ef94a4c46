"""What an inference writes: never over the results of an earlier one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from med3d_components.data.volumes import case_name
from med3d_components.handlers.base import CaseCollector
from med3d_components.handlers.drawing import draw_overlays
from med3d_components.utils import move_aside, write_json, write_table

__all__ = ["FreshOutput", "PredictionTable", "ScanReport"]

logger = logging.getLogger(__name__)

IDENTITY = ("case", "patient", "image", "center_mm")


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
        # Not before a scan was read: what cannot run leaves earlier results where they are.
        engine.add_event_handler(Events.ITERATION_STARTED(once=1), self.make_room)
        engine.add_event_handler(Events.COMPLETED, self.report)

    def make_room(self) -> None:
        """Move earlier results aside."""
        earlier = [path for pattern in self.patterns for path in sorted(self.folder.glob(pattern))]
        if moved := move_aside(earlier, self.folder / "previous"):
            logger.info("Earlier results were moved to %s.", moved)

    def report(self) -> None:
        """Say where the results are."""
        logger.info("Results lie in %s.", self.folder)


class ScanReport(CaseCollector):
    """Write one row per segmented scan into ``scans.csv``, and a picture of it in three planes.

    A row holds the volume of each class in ml, the box around all of them in world coordinates (RAS, mm), empty where
    nothing was found, and the seconds from reading to writing.

    The outputs hold "pred", a label map (1, H, W, D) in the geometry of the scan; and, for the picture
    ``<case>_overlay.png``, "image" and "overlay", image and label map on the network's grid.

    Args:
        output_dir: folder of table and pictures.
        classes: names, background first.
    """

    def __init__(self, output_dir: str | os.PathLike[str], classes: Sequence[str]) -> None:
        super().__init__()
        self.folder = Path(output_dir)
        self.classes = classes
        self.start_time = 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.start)
        super().attach(engine)

    def start(self) -> None:
        """Note the time."""
        self.start_time = time.perf_counter()

    def keep(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Draw a scan and keep its row."""
        case = item.get("case") or case_name(output["pred"].meta["filename_or_obj"])
        row = {"case": case, **self._volumes(output["pred"]), **_box(output["pred"])}
        image, overlay = (output[name][0].float().cpu() for name in ("image", "overlay"))
        shown = {"title": case, "image": image, "pred": overlay}
        draw_overlays(self.folder / f"{case}_overlay.png", [shown], self.classes)
        self.kept.append({**row, "seconds": round(time.perf_counter() - self.start_time, 2)})

    def write(self, engine: Engine) -> None:
        """Write the table."""
        write_table(self.folder / "scans.csv", self.kept)

    def _volumes(self, pred: MetaTensor) -> dict[str, float]:
        voxel_ml = float(torch.linalg.det(pred.affine[:3, :3].double()).abs()) / 1000
        counts = torch.bincount(pred.as_tensor().flatten().long(), minlength=len(self.classes)).tolist()
        return {f"{name} ml": round(counts[i] * voxel_ml, 3) for i, name in enumerate(self.classes) if i > 0}


def _box(pred: MetaTensor) -> dict[str, float]:
    """Return the box around the foreground, up to the faces of its voxels, in world coordinates."""
    names = [f"{axis} {end} mm" for axis in "xyz" for end in ("min", "max")]
    inside = pred.as_tensor()[0] > 0
    if not inside.any():
        return dict.fromkeys(names, float("nan"))
    ends = []
    for axis in range(3):
        found = inside.any(dim=tuple(other for other in range(3) if other != axis)).nonzero()
        ends.append((float(found.min()) - 0.5, float(found.max()) + 0.5))
    corners = torch.cartesian_prod(*(torch.tensor(pair, dtype=torch.float64) for pair in ends))
    affine = pred.affine.cpu().double()
    world = corners @ affine[:3, :3].T + affine[:3, 3]
    values = torch.stack([world.min(dim=0).values, world.max(dim=0).values], dim=1).flatten().tolist()
    return {name: round(value, 2) for name, value in zip(names, values, strict=True)}


class PredictionTable(CaseCollector):
    """Write one row per classified case into ``predictions.csv`` and ``predictions.json``.

    Args:
        output_dir: folder of the tables.
        classes: names of the classes, in the order of the network's output.
        items: the cases as they are listed; a row repeats what its case has of ``IDENTITY``.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        classes: Sequence[str],
        items: Sequence[Mapping[str, Any]],
    ) -> None:
        super().__init__()
        self.folder = Path(output_dir)
        self.classes = list(classes)
        self.cases = {item["case"]: {key: item[key] for key in IDENTITY if key in item} for item in items}

    def keep(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Keep the row of a case; "pred" holds its probabilities, one per class."""
        scores = dict(zip(self.classes, output["pred"].tolist(), strict=True))
        probabilities = {f"probability of {name}": score for name, score in scores.items()}
        prediction = max(scores, key=scores.__getitem__)
        self.kept.append({**self.cases[item["case"]], "prediction": prediction, **probabilities})

    def write(self, engine: Engine) -> None:
        """Write both tables."""
        write_table(self.folder / "predictions.csv", self.kept)
        write_json(self.folder / "predictions.json", self.kept)
