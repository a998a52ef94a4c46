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

from med3d_components.handlers.base import CaseCollector
from med3d_components.handlers.drawing import draw_overlays
from med3d_components.job import ScanJob
from med3d_components.utils import check_finite, move_aside, write_json, write_table

__all__ = ["FreshOutput", "PredictionTable", "ScanReport"]

logger = logging.getLogger(__name__)

IDENTITY = ("case", "patient", "image", "center_mm")
PLAUSIBLE = 3
"""How many times smaller or larger than in all training labels a volume may be."""


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
    """Tell a job of each scan that is done: the row of its ``scans.csv``; and draw a mask in three planes.

    A row of a mask holds the volume of each class in ml, the box around all of them in world coordinates (RAS, mm),
    empty where nothing was found, and what is implausible: a class without a voxel, or of a volume far from those of
    the training labels. All rows hold the seconds from reading to writing.

    The outputs of a segmentation hold "pred", a label map (1, H, W, D) in the geometry of the scan; and, for the
    picture ``<case>_overlay.png``, "image" and "overlay", image and label map on the network's grid.

    Args:
        job: of the scans.
        classes: names, background first; None where the result is no mask.
        volumes_ml: least and largest volume of a class in the training labels, where they are known.
    """

    def __init__(
        self,
        job: ScanJob,
        classes: Sequence[str] | None = None,
        volumes_ml: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.job = job
        self.classes = classes
        self.volumes_ml = volumes_ml or {}
        self.start_time = 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.start)
        super().attach(engine)

    def start(self) -> None:
        """Note the time."""
        self.start_time = time.perf_counter()

    def keep(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Draw a mask, and keep the row of its scan."""
        case = item["case"]
        row: dict[str, Any] = {}
        if self.classes is not None:
            volumes = self._volumes(output["pred"], self.classes)
            row = {f"{name} ml": volume for name, volume in volumes.items()}
            row |= {**_box(output["pred"]), "implausible": self._find_implausible(case, volumes)}
            if getattr(item.get("image"), "meta", {}).get("spacing_assumed"):
                row["implausible"] = "; ".join(filter(None, ["the voxel size is assumed", row["implausible"]]))
            image, overlay = (output[name][0].float().cpu() for name in ("image", "overlay"))
            shown = {"title": case, "image": image, "pred": overlay}
            draw_overlays(self.job.partial / f"{case}_overlay.png", [shown], self.classes)
        self.job.keep(case, {**row, "seconds": round(time.perf_counter() - self.start_time, 2)})

    def write(self, engine: Engine) -> None:
        """Leave it to the job, which has written each row when its scan was done."""

    def _volumes(self, pred: MetaTensor, classes: Sequence[str]) -> dict[str, float]:
        voxel_ml = float(torch.linalg.det(pred.affine[:3, :3].double()).abs()) / 1000
        counts = torch.bincount(pred.as_tensor().flatten().long(), minlength=len(classes)).tolist()
        return {name: round(counts[i] * voxel_ml, 3) for i, name in enumerate(classes) if i > 0}

    def _find_implausible(self, case: str, volumes: Mapping[str, float]) -> str:
        """Return, and log, what a radiologist would not believe of the volumes."""
        found = []
        for name, volume in volumes.items():
            low, high = self.volumes_ml.get(name, (0, float("inf")))
            if volume == 0:
                found.append(f"no voxel of {name}")
            elif not low / PLAUSIBLE <= volume <= high * PLAUSIBLE:
                found.append(f"{volume:g} ml of {name}, of which the training labels have {low:g} to {high:g} ml")
        if found:
            logger.warning("%s: the mask has %s; look at it before you trust it.", case, ", and ".join(found))
        return "; ".join(found)


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
        """Keep the row of a case; "pred" holds its probabilities, one per class.

        Raises:
            ValueError: if one of them is NaN, beside which any class passes for the likeliest.
        """
        check_finite(f"The probability of {item['case']}", output["pred"])
        scores = dict(zip(self.classes, output["pred"].tolist(), strict=True))
        probabilities = {f"probability of {name}": score for name, score in scores.items()}
        prediction = max(scores, key=scores.__getitem__)
        self.kept.append({**self.cases[item["case"]], "prediction": prediction, **probabilities})

    def write(self, engine: Engine) -> None:
        """Write both tables."""
        write_table(self.folder / "predictions.csv", self.kept)
        write_json(self.folder / "predictions.json", self.kept)
