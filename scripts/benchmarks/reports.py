"""What reports and checkpoints cost a training of few cases."""

from __future__ import annotations

import inspect
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import wraps
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from scripts.benchmarks.cases import BUNDLES
from scripts.benchmarks.stopwatch import Row, report
from scripts.samples import write_sample

__all__ = ["reports"]

LEARNING = ("PretrainedEncoder", "EpochSeeder", "RateSchedule", "ValidationHandler")
"""Handlers that a training needs to learn and to validate; all others write or show something."""
OPTIONS = {"depth": 10, "spacing": [8, 8, 8], "patch_size": [40, 40, 40], "val_fraction": 0.2, "num_workers": 0}


def reports(cases: int = 8, epochs: int = 8, options: Mapping[str, Any] | None = None, out: str | None = None) -> None:
    """Compare an epoch of lung_segmentation with one that leaves out all reports and checkpoints.

    The scans are synthetic, 8 mm in spacing; a fifth of all validates, in both. Below the two is what each handler
    takes of an epoch, on average over all of them, the first one included.

    Args:
        cases: that train.
        epochs: timed, after one that does not count; the median is reported.
        options: of the bundle, such as '{"checkpoint_minutes": 0}'.
        out: folder for reports.csv and reports.json; nothing is written without it.
    """
    with TemporaryDirectory() as folder:
        data = Path(folder, "Synthetic_Lungs")
        write_sample(data, round(cases * 1.25))
        given = {**OPTIONS, "epochs": epochs + 2, "dataset_dir": str(data), **(options or {})}
        plain_s, _, _ = _train(Path(folder, "plain"), given, everything=False)
        full_s, spent, size = _train(Path(folder, "full"), given, everything=True)
    costs = {name: spent[name] for name in sorted(spent, key=spent.__getitem__, reverse=True)}
    figures = {"with reports and checkpoints": full_s, "without": plain_s, **costs}
    rows: list[Row] = [{"name": name, "s": seconds, "share": seconds / full_s} for name, seconds in figures.items()]
    about = {"cases": cases, "epochs": epochs, "resume file, MB": round(size / 1e6), **(options or {})}
    report("reports", rows, about, out)


def _train(run_dir: Path, options: Mapping[str, Any], everything: bool) -> tuple[float, dict[str, float], int]:
    """Return the median seconds of an epoch, those of each handler, and the size of the resume file in bytes."""
    bundle = BUNDLES / "lung_segmentation"
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "train.json"))
    parser.update({"bundle_root": str(bundle), "run_dir": str(run_dir), **options})
    if not everything:
        parser["train"]["handlers"] = [item for item in parser["train"]["handlers"] if _is_learning(item)]
        parser["validate"]["handlers"] = []
        parser.parse()
    set_determinism(seed=0)
    spent: defaultdict[str, float] = defaultdict(float)
    for name in ("validate#handlers", "train#handlers"):  # before they are attached
        for handler in parser.get_parsed_content(name):
            if everything and type(handler).__name__ not in LEARNING:
                _time_methods(handler, spent)
    trainer = parser.get_parsed_content("train#trainer")
    starts: list[float] = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: starts.append(time.perf_counter()))
    trainer.run()
    # From one start to the next; the first epoch also warms up.
    seconds = median(after - before for before, after in pairwise(starts[1:]))
    last = run_dir / "checkpoints" / "last.pt"
    each = {name: total / len(starts) for name, total in spent.items()}
    return seconds, each, last.stat().st_size if last.is_file() else 0


def _is_learning(item: Mapping[str, Any]) -> bool:
    return str(item["_target_"]).rpartition(".")[2] in LEARNING


def _time_methods(handler: Any, spent: defaultdict[str, float]) -> None:
    """Add up the seconds that the methods of a handler take, by the name of its class."""
    running: list[str] = []

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def run(*arguments: Any) -> Any:
            if running:  # called by another method of the handler
                return method(*arguments)
            running.append(method.__name__)
            start = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                spent[type(handler).__name__] += time.perf_counter() - start
                running.clear()

        return run

    for name in dir(handler):
        method = getattr(handler, name)
        if not name.startswith("_") and name != "attach" and inspect.ismethod(method):
            setattr(handler, name, timed(method))
