"""Keep all that is needed to repeat a training in ``run.json``, beside its model."""

from __future__ import annotations

import math
import os
import platform
import sys
import weakref
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser, ConfigWorkflow

from med3d_components.records import FORMAT, RECORD, describe_data, describe_environment, describe_weights, read_record
from med3d_components.utils import as_flag, write_json
from med3d_components.utils.files import file_digest
from med3d_components.utils.options import OPTIONS
from med3d_components.utils.resolved import changed_ids, digest_config

__all__ = ["RunRecord"]

NO_OVERLAYS = ("train.json", "evaluate.json", "inference.json", "metadata.json")


class RunRecord:
    """Write ``run.json``: options, environment, data, weights it started from, and the scores of each validation.

    It is written after the first step, at the end of each epoch and of the training; "status" is "running",
    "completed", or "stopped" by an error or a signal. List this handler after the one that validates and after
    TrainingCheckpoint, which moves the record of an earlier run aside.

    Args:
        workflow: that reads the config; None, where a config is read in another way, writes no record.
        ckpt_dir: folder of the model.
        datalist: whose cases train and validate.
        trained_on: names of the data sets.
        evaluator: the engine whose metrics are kept.
        options: of the run, resolved, of JSON types.
        resume: true to go on with the record of the run that is resumed, which gets one more part.
    """

    def __init__(
        self,
        workflow: ConfigWorkflow | None,
        ckpt_dir: str | os.PathLike[str],
        datalist: Any,
        trained_on: Sequence[str],
        evaluator: Engine,
        options: Mapping[str, Any],
        resume: bool | str = False,
    ) -> None:
        self.workflow = workflow
        self.folder = Path(ckpt_dir)
        self.path = self.folder / RECORD
        self.datalist, self.trained_on = datalist, list(trained_on)
        self.evaluator = evaluator
        self.options = {name: _absolute(name, value) for name, value in options.items()}
        self.resume = as_flag("resume", resume)
        self.record: dict[str, Any] = {}
        self.end: weakref.finalize[Any, Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        # One process has the model to itself, and without a config there is nothing to repeat.
        if self.workflow is None or idist.get_rank() > 0:
            return
        engine.add_event_handler(Events.STARTED, self.start)
        # Not before a step: what cannot train leaves the record of an earlier model where it is.
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self.write)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.add_scores)
        engine.add_event_handler(Events.COMPLETED, self.complete)

    def start(self, engine: Engine) -> None:
        """Collect what is known before the first step."""
        earlier = read_record(self.path) if self.resume and self.path.is_file() else None
        self.record = self._describe(engine)
        done = engine.state.iteration // (engine.state.epoch_length or 1)
        if earlier is not None:
            self._continue(earlier, done)
        elif done:
            self.record["parts"][0]["first_epoch"] = done + 1
        self.end = weakref.finalize(self, _stop, self.path, self.record["parts"][-1]["started"], os.getpid())

    def add_scores(self, engine: Engine) -> None:
        """Keep what the epoch that ended has reached."""
        state = self.evaluator.state
        if state.epoch == engine.state.epoch:
            metrics = {name: _plain(value) for name, value in state.metrics.items()}
            self.record["scores"].append({"epoch": engine.state.epoch, **metrics})
        best = getattr(state, "best_metric_epoch", -1)
        if best > 0:
            self.record["best"].update(score=_plain(state.best_metric), epoch=best)
        self.write(engine)

    def complete(self, engine: Engine) -> None:
        """Close the record, with the hashes of the weights that it belongs to."""
        encoder = Path(self.record["options"]["run_dir"]) / "checkpoints" / "encoder.pt"
        files = (self.folder / "model.pt", encoder)
        self.record["files"] = {path.name: file_digest(path) for path in files if path.is_file()}
        self.write(engine, "completed")
        if self.end is not None:
            self.end.detach()

    def write(self, engine: Engine, status: str = "running") -> None:
        """Write the file."""
        self.record["status"] = self.record["parts"][-1]["status"] = status
        epoch, steps = engine.state.epoch, engine.state.iteration + engine.state.steps_beyond
        self.record["parts"][-1].update(ended=_now(), last_epoch=epoch, steps=steps)
        write_json(self.path, self.record)

    def _describe(self, engine: Engine) -> dict[str, Any]:
        assert self.workflow is not None
        config, folder = self.workflow.parser, Path(self.workflow.config_root_path)
        options = dict(self.options)
        names, changed, given = _compare(config, folder)
        precision = engine.precision
        part = {
            "status": "running",
            "started": _now(),
            "first_epoch": 1,
            "host": platform.node(),
            "precision": {"name": precision.name, "reason": precision.reason},
            "environment": describe_environment(options["device"], idist.get_world_size()),
        }
        return {
            "format": FORMAT,
            "status": "running",
            "bundle": {"name": config["settings"]["bundle"], "version": str(config["_meta_"].get("version", ""))},
            "run_id": str(self.workflow.run_id),
            "configs": {name: file_digest(folder / name) for name in names},
            "changed": changed,
            "command": list(sys.orig_argv),
            "options": options,
            "given": given,
            "data": describe_data(self.datalist, options["dataset_dir"], self.trained_on),
            "weights": _describe_weights(options, getattr(engine.state, "pretrained", None)),
            "parts": [part],
            "best": {"metric": self.evaluator.state.key_metric_name, "score": None, "epoch": 0},
            "scores": [],
            "files": {},
        }

    def _continue(self, earlier: Mapping[str, Any], done: int) -> None:
        """Put the parts of the run that is resumed before this one, with what their options were."""
        changed = {
            name: value
            for name, value in earlier["options"].items()
            if name != "resume" and self.record["options"].get(name) != value
        }
        (part,) = self.record["parts"]
        part["first_epoch"] = done + 1
        parts = [{**one, "options": {**changed, **one.get("options", {})}} for one in earlier["parts"]]
        if parts[-1]["status"] == "running":
            parts[-1]["status"] = "stopped"
        kept = [row for row in earlier["scores"] if row["epoch"] <= done]
        self.record.update(parts=[*parts, part], scores=kept, best=earlier["best"])
        # A resumed run goes on from its own checkpoint, and what it started from was read by its first part.
        self.record["weights"] = earlier["weights"]


def _compare(config: ConfigParser, folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Compare a config as it runs with its files.

    MONAI keeps neither the names of the files nor what was typed.

    Returns:
        Names of the files that make it, all options aside; ids that no file explains; options that are not those of
        train.json.
    """
    if not (folder / "train.json").is_file():
        return [], [str(name) for name in config.get()], []
    names = ["train.json"]
    changed = _changed(config, folder, names)
    overlays = (path.name for path in sorted(folder.glob("*.json")) if path.name not in NO_OVERLAYS)
    for name in overlays:
        if len(fewer := _changed(config, folder, [*names, name])) < len(changed):
            names, changed = [*names, name], fewer
    base = ConfigParser.load_config_file(folder / "train.json")
    given = [name for name in base if name in OPTIONS and config.get(name) != base[name]]
    return names, changed, given


def _changed(config: ConfigParser, folder: Path, names: Sequence[str]) -> list[str]:
    """Return the ids of a config, options aside, that differ from those that its files have."""
    files = ConfigParser(ConfigParser.load_config_files([folder / name for name in names]))
    files.resolve_macro_and_relative_ids()
    return changed_ids(digest_config(files), digest_config(config))


def _describe_weights(options: Mapping[str, Any], report: Any) -> list[dict[str, Any]]:
    found = []
    source = options.get("pretrained_weights")
    if source is not None and str(source).lower() != "none":
        found.append(describe_weights("pretrained_weights", source, report.path if report else None, report))
    if coarse := options.get("coarse_checkpoint"):
        found.append(describe_weights("coarse_checkpoint", coarse, Path(coarse)))
    return found


def _absolute(name: str, value: Any) -> Any:
    """Return a path that means the same elsewhere; names of published weights are none."""
    kind = OPTIONS[name].kind
    if kind == "path" and value is not None:
        return Path(value).expanduser().absolute().as_posix()
    if kind == "weights" and isinstance(value, str):
        layout, colon, path = value.rpartition(":")
        return layout + colon + Path(path).absolute().as_posix() if Path(path).is_file() else value
    return value


def _plain(value: Any) -> float | None:
    """Return a score as JSON holds it: null for one that is no number."""
    number = float(value)
    return number if math.isfinite(number) else None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _stop(path: Path, started: str, process: int) -> None:
    """Note that a training ended before its end, if the file is still that training's."""
    if os.getpid() != process or not path.is_file():
        return
    record = read_record(path)
    part = record["parts"][-1]
    if (part["started"], part["status"]) == (started, "running"):
        record["status"] = part["status"] = "stopped"
        part["ended"] = _now()
        write_json(path, record)
