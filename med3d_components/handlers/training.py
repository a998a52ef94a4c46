"""What people look at first of a training: its log, a table, curves."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from matplotlib.image import imread
from torch.utils.tensorboard import SummaryWriter

from med3d_components.handlers.drawing import draw_curves
from med3d_components.handlers.evaluation import VALIDATION_FILES, score_text
from med3d_components.handlers.pictures import PICTURES
from med3d_components.utils import as_flag, move_aside, write_json, write_table

__all__ = ["TrainingReport"]

logger = logging.getLogger(__name__)


class TrainingReport:
    """After each epoch: one line in the log, one row in ``metrics.csv``, the curves as PNG; all in TensorBoard too.

    List this handler after the one that validates and before TrainingCheckpoint.

    Args:
        output_dir: folder of the report; files of an earlier run are moved to ``previous/N`` in it.
        evaluator: the engine whose metrics are reported.
        resume: true to continue the table of the run that is resumed.
        split: written to ``split.json``: which cases train and which validate.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        evaluator: Engine,
        resume: bool | str = False,
        split: Any = None,
    ) -> None:
        self.folder = Path(output_dir)
        self.table = self.folder / "metrics.csv"
        self.evaluator = evaluator
        self.resume = as_flag("resume", resume)
        self.split = split
        self.rows: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if not self.resume:
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self.make_room)
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.losses.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add_loss)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.report)

    def make_room(self) -> None:
        """Move an earlier report aside, once a step was made; that of a resumed run is read again later."""
        if idist.get_rank() == 0:
            names = ("metrics.csv", "curves.png", "split.json", "tensorboard", *VALIDATION_FILES)
            move_aside([self.folder / name for name in names], self.folder / "previous")
            if self.split is not None:
                write_json(self.folder / "split.json", self.split)

    def add_loss(self, engine: Engine) -> None:
        """Note the loss of an iteration."""
        self.losses.append(float(engine.state.output[0]["loss"]))

    def report(self, engine: Engine) -> None:
        """Write table, curves and log line of the epoch that ended."""
        loss = float(idist.all_reduce(sum(self.losses) / len(self.losses))) / idist.get_world_size()
        if idist.get_rank() > 0:
            return
        epoch, key_metric = engine.state.epoch, self.evaluator.state.key_metric_name
        if self.resume and not self.rows and self.table.is_file():
            self.rows = [row for row in _read(self.table) if row["epoch"] < epoch]
        validated = self.evaluator.state.epoch == epoch
        metrics = dict(self.evaluator.state.metrics) if validated else {}
        self.rows.append({"epoch": epoch, "train_loss": loss, **metrics})
        write_table(self.table, self.rows, first=("epoch", "train_loss", key_metric))
        draw_curves(self.folder / "curves.png", self.rows, key_metric)
        # Opened here, since the epoch that a resume goes on from is known only now.
        self.writer = self.writer or SummaryWriter(str(self.folder / "tensorboard"), purge_step=epoch)
        for name, value in {"train_loss": loss, **metrics}.items():
            self.writer.add_scalar(name, value, epoch)
        for name in PICTURES if validated else ():
            if (self.folder / name).is_file():
                picture = imread(self.folder / name)
                self.writer.add_image(name.removesuffix(".png"), picture, epoch, dataformats="HWC")
        self.writer.flush()
        scores = ", ".join(f"{name} {score_text(value)}" for name, value in metrics.items())
        logger.info("Epoch %d/%d: train_loss %.4f%s", epoch, engine.state.max_epochs, loss, scores and f", {scores}")


def _read(path: Path) -> list[dict[str, float]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    return [{**row, "epoch": int(row["epoch"])} for row in rows]
