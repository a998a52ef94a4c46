"""Scores per case of the network that is kept, and the result of an evaluation."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler

from med3d_components.engines import PrecisionTrainer
from med3d_components.handlers.base import is_kept, join_cases
from med3d_components.handlers.pictures import PICTURES
from med3d_components.metrics.calibration import BINS_TABLE
from med3d_components.utils import is_nan, move_aside, write_json, write_table
from med3d_components.utils.checks import NotFiniteError

__all__ = ["VALIDATION_FILES", "CaseReport", "EvaluationReport", "Validation", "score_text"]

logger = logging.getLogger(__name__)

VALIDATION_FILES = ("cases.csv", "cases_lits.csv", *PICTURES)
"""Names of all that validations leave."""
OWN_FILES = ("evaluation.json", "calibration.csv", "evaluation.html")
"""Names of what evaluations leave beside them, the page of ``python -m med3d_components evaluate`` included."""


class Validation(ValidationHandler):
    """MONAI's handler that validates every ``interval`` epochs; the last epoch is validated as well.

    Raises:
        ValueError: in training, if the network gives NaN or infinity; it says which epoch, and how to go on.
    """

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self)

    def __call__(self, engine: PrecisionTrainer) -> None:
        """Validate."""
        try:
            super().__call__(engine)
        except NotFiniteError as error:
            raise ValueError(
                f"{error.what} is NaN or infinite in the validation of epoch {engine.state.epoch}; {engine.advice}, or "
                f"look at this case.{engine.last_good}"
            ) from None

    def _is_due(self, engine: Engine, epoch: int) -> bool:
        return epoch % self.interval == 0 or epoch == engine.state.max_epochs


class CaseReport:
    """After an evaluation: all scores per case in ``cases.csv``; of a training's, if its network is kept.

    Args:
        output_dir: folder of the report.
        metric: whose rows are written; None for the key metric. The rows of a second one go into ``cases_NAME.csv``.
        columns: metrics whose columns stand behind those of ``cases.csv``; those that the evaluator lacks are skipped.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        metric: str | Sequence[str] | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        self.folder = Path(output_dir)
        self.metrics = [metric] if metric is None or isinstance(metric, str) else list(metric)
        self.columns = columns

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.COMPLETED, self.report)

    def report(self, engine: Engine) -> None:
        """Write the tables."""
        if idist.get_rank() > 0 or not is_kept(engine):
            return
        details = engine.state.metric_details
        for index, name in enumerate(self.metrics):
            rows = details[name or engine.state.key_metric_name]
            if index:
                write_table(self.folder / f"cases_{name}.csv", rows)
            else:
                beside = [details[column] for column in self.columns if column in details]
                write_table(self.folder / "cases.csv", join_cases(rows, *beside))


class EvaluationReport:
    """At the end of an evaluation: all metrics in the log and in ``evaluation.json``.

    And how often the network was right for each confidence, in ``calibration.csv``, where :class:`Calibration` counted.

    Args:
        output_dir: folder of the report; files of an earlier evaluation are moved to ``previous/N`` in it.
    """

    def __init__(self, output_dir: str | os.PathLike[str]) -> None:
        self.folder = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED(once=1), self.make_room)
        engine.add_event_handler(Events.COMPLETED, self.report)

    def make_room(self) -> None:
        """Move an earlier report aside."""
        if idist.get_rank() == 0:
            names = (*OWN_FILES, *VALIDATION_FILES)
            move_aside([self.folder / name for name in names], self.folder / "previous")

    def report(self, engine: Engine) -> None:
        """Write the metrics; NaN, where no case has a class, becomes null."""
        if idist.get_rank() > 0:
            return
        metrics = {name: None if is_nan(value) else value for name, value in engine.state.metrics.items()}
        write_json(self.folder / "evaluation.json", metrics)
        if bins := engine.state.metric_details.get(BINS_TABLE):
            write_table(self.folder / "calibration.csv", bins)
        for name, value in metrics.items():
            logger.info("%s %s", name, score_text(value))
        logger.info("Tables and pictures lie in %s.", self.folder)


def score_text(value: float | int | None) -> str:
    """Return a score as a log has it."""
    return f"{value:.4f}" if isinstance(value, float) else "-" if value is None else str(value)
