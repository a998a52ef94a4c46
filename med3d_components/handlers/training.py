"""What people look at first of a training: its log, a table, curves."""

from __future__ import annotations

import csv
import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from matplotlib.image import imread
from torch.utils.tensorboard import SummaryWriter

from med3d_components.handlers.base import is_kept
from med3d_components.handlers.drawing import EPOCH_COLUMNS, draw_curves
from med3d_components.handlers.evaluation import VALIDATION_FILES, score_text
from med3d_components.handlers.pictures import PICTURES
from med3d_components.utils import as_flag, move_aside, write_table

__all__ = ["TrainingReport"]

logger = logging.getLogger(__name__)

RATES = EPOCH_COLUMNS[3:5]
"""Columns of the optimizer's groups: see :func:`~med3d_components.engines.parameter_groups`."""


class TrainingReport:
    """After each epoch: one line in the log and one row in ``metrics.csv``, all in TensorBoard too.

    A row has the epoch, the steps of the training so far, the time, the learning rates of the epoch's last step, the
    mean of ``engine.state.losses``, which is empty where no step had one, and all metrics if the epoch was validated.
    The curves are drawn as PNG when there is a validation, and at the end.

    List this handler after the one that validates and before TrainingCheckpoint.

    Args:
        output_dir: folder of the report; files of an earlier run are moved to ``previous/N`` in it.
        evaluator: the engine whose metrics are reported.
        resume: true to continue the table of the run that is resumed.
    """

    def __init__(self, output_dir: str | os.PathLike[str], evaluator: Engine, resume: bool | str = False) -> None:
        self.folder = Path(output_dir)
        self.table = self.folder / "metrics.csv"
        self.evaluator = evaluator
        self.resume = as_flag("resume", resume)
        self.rows: list[dict[str, Any]] = []
        self.rates: dict[str, float] = {}
        self.drawn = 0
        self.writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if not self.resume:
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self.make_room)
        engine.add_event_handler(Events.EPOCH_STARTED | Events.ITERATION_COMPLETED, self.note_rates)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.report)
        engine.add_event_handler(Events.COMPLETED, self.draw)

    def make_room(self) -> None:
        """Move an earlier report aside, once a step was made; that of a resumed run is read again later."""
        if idist.get_rank() == 0:
            names = ("metrics.csv", "curves.png", "tensorboard", *VALIDATION_FILES)
            move_aside([self.folder / name for name in names], self.folder / "previous")

    def note_rates(self, engine: Engine) -> None:
        """Note the learning rates of a step: when an epoch has ended they are those of the next one."""
        groups = engine.optimizer.param_groups
        self.rates = {name: float(group["lr"]) for name, group in zip(RATES, groups, strict=False)}

    def report(self, engine: Engine) -> None:
        """Write table, curves and log line of the epoch that ended."""
        if idist.get_rank() > 0:
            return
        epoch, key_metric = engine.state.epoch, self.evaluator.state.key_metric_name
        if self.resume and not self.rows and self.table.is_file():
            self.rows = [row for row in _read(self.table) if row["epoch"] < epoch]
        validated = self.evaluator.state.epoch == epoch
        metrics = dict(self.evaluator.state.metrics) if validated else {}
        losses = engine.state.losses
        loss = {"train_loss": sum(losses) / len(losses)} if losses else {}
        step = engine.state.iteration + engine.state.steps_beyond
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self.rows.append({"epoch": epoch, "step": step, "time": now, **self.rates, **loss, **metrics})
        columns = [name for name in EPOCH_COLUMNS if name == "train_loss" or any(name in row for row in self.rows)]
        write_table(self.table, self.rows, first=(*columns, key_metric))
        if validated:
            self.draw()
        # Opened here, since the epoch that a resume goes on from is known only now.
        self.writer = self.writer or SummaryWriter(str(self.folder / "tensorboard"), purge_step=epoch)
        for name, value in {**self.rates, **loss, **metrics}.items():
            self.writer.add_scalar(name, value, epoch)
        for name in PICTURES if validated and is_kept(self.evaluator) else ():
            if (self.folder / name).is_file():
                picture = imread(self.folder / name)
                self.writer.add_image(name.removesuffix(".png"), picture, epoch, dataformats="HWC")
        self.writer.flush()
        told = ", ".join(f"{name} {score_text(value)}" for name, value in {**loss, **metrics}.items())
        logger.info("Epoch %d/%d: %s", epoch, engine.state.max_epochs, told or "no step had a loss")

    def draw(self) -> None:
        """Draw the curves of what was not drawn yet."""
        if len(self.rows) > self.drawn:
            draw_curves(self.folder / "curves.png", self.rows, self.evaluator.state.key_metric_name)
            self.drawn = len(self.rows)


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _value(text) for key, text in row.items() if text} for row in csv.DictReader(file)]


def _value(text: str) -> int | float | str:
    """Return what a cell held: a count stays one, and a time is text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
