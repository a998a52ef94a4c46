"""The trainings of a study: each a run of a bundle in a folder and a process of its own, done once.

Below the study's folder::

    study.json             what all cells have in common
    cells/NAME/cell.json   settings of a cell and when it was started
    cells/NAME/done.json   the same with time and machine, written when it has ended well
    cells/NAME/log.txt     what the bundle printed; models/, checkpoints/ and eval/ are the bundle's

While a cell runs, it is locked: by the study, and by the bundle as the run_dir of its training. So the same command may
run several times side by side, and a study that was killed never trains a cell that goes on without it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from med3d_components.utils import write_json
from med3d_components.utils.files import remove_leftovers
from med3d_components.utils.machine import describe_machine
from med3d_components.utils.writer_lock import FolderInUseError, WriterLock
from scripts.study.bundles import sha256

__all__ = ["Cell", "check_same", "last_line", "run_cells"]

Execute = Callable[[Sequence[str], Path, IO[bytes]], int]

STUDY_LOCK = ".study.json"
"""In the folder of a cell, beside the lock of its training."""


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        name: of its folder.
        bundle: folder of the bundle.
        options: of the bundle's command line.
        facts: what the report must know of it.
        after: name of the cell whose encoder it starts from, in the place of the option pretrained_weights.
        configs: further configs, which change train.json.
    """

    name: str
    bundle: Path
    options: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    after: str | None = None
    configs: tuple[Path, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return what decides the result."""
        weights = str(self.options.get("pretrained_weights"))
        digest = sha256(Path(weights.removeprefix("kinetics:").removeprefix("genesis:")))
        return {"bundle": self.bundle.name, **self.options, "sha256 of the weights": digest}

    def command(self, folder: Path) -> list[str]:
        """Return the command that runs the cell in its folder, or resumes it there."""
        # The last network and its cases, since the best one would be chosen by the cases that it is compared on.
        own = {"run_dir": folder, "resume": _last(folder).is_file(), "keep": "last"}
        if self.after:
            own["pretrained_weights"] = folder.with_name(self.after) / "checkpoints" / "encoder.pt"
        files = str([str(path) for path in (self.bundle / "configs" / "train.json", *self.configs)])
        options = [str(part) for key, value in {**self.options, **own}.items() for part in (f"--{key}", value)]
        return [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", files, *options]


def run_cells(cells: Sequence[Cell], out: Path, execute: Execute | None = None, below: str = "cells") -> dict[str, str]:
    """Run the cells that are not finished, one after the other, and resume those that were interrupted.

    Args:
        cells: in the order to run them; one that starts from another's encoder comes after it.
        out: folder of the study.
        execute: runs a command, given the cell's folder and the file for the output, and returns its exit code.
        below: folder in ``out`` that holds those of the cells.

    Returns:
        Names of the cells that failed, and why.

    Raises:
        ValueError: before anything runs, if there is a cell of the same name with other settings.
    """
    folders = {cell.name: out / below / cell.name for cell in cells}
    for cell in cells:
        check_same(folders[cell.name] / "cell.json", cell.settings(), "settings")
    waiting = [cell for cell in cells if not _is_done(folders[cell.name])]
    print(f"{len(cells)} trainings, {len(cells) - len(waiting)} of them finished before; logs are in {out / below}.")
    failures: dict[str, str] = {}
    progress = tqdm(waiting, unit="training", disable=None)  # None: no bar where it would fill a log
    for number, cell in enumerate(progress, 1):
        progress.set_description(cell.name)
        start, problem = time.time(), _run(cell, folders[cell.name], execute or _train)
        if problem:
            failures[cell.name] = problem
        ended = problem or f"done in {time.time() - start:.0f} s"
        tqdm.write(f"[{number}/{len(waiting)}] {cell.name}: {ended}")
    return failures


def check_same(path: Path, wanted: Mapping[str, Any], key: str | None = None) -> None:
    """Compare settings with those in a file, or in an entry of it, if there is one.

    Raises:
        ValueError: naming what differs.
    """
    if not path.is_file():
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    found = content[key] if key else content
    plain = json.loads(json.dumps(wanted))
    changed = [name for name in {**plain, **found} if plain.get(name) != found.get(name)]
    if changed:
        name = changed[0]
        raise ValueError(
            f"{path} was made with other settings: {name} was {found.get(name)!r} and is now {plain.get(name)!r}; "
            "give them as they were, or choose another folder with --out."
        )


def last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1].strip() if lines else "no output"


def _is_done(folder: Path) -> bool:
    return (folder / "done.json").is_file()


def _run(cell: Cell, folder: Path, execute: Execute) -> str | None:
    """Run a cell, or resume it, and return what went wrong."""
    if cell.after and not _is_done(folder.with_name(cell.after)):
        return f"not started, since {cell.after} is not finished"
    try:
        with WriterLock(folder, "the training's folder", file=STUDY_LOCK):
            with WriterLock(folder):  # free, unless its training outlived its study
                remove_leftovers(folder)
            return None if _is_done(folder) else _train_locked(cell, folder, execute)
    except FolderInUseError:
        return "left to another process, which is at it"


def _train_locked(cell: Cell, folder: Path, execute: Execute) -> str | None:
    start, spent = time.time(), _spent(folder)
    record = {"settings": cell.settings(), "facts": dict(cell.facts), "started": start, "seconds": spent}
    write_json(folder / "cell.json", record)
    with (folder / "log.txt").open("ab") as log:
        code = execute(cell.command(folder), folder, log)
    if code:
        return f"failed with exit code {code}: {last_line(folder / 'log.txt')} (see {folder / 'log.txt'})"
    write_json(folder / "done.json", {**record, "seconds": spent + time.time() - start, "machine": describe_machine()})
    return None


def _last(folder: Path) -> Path:
    """Return the checkpoint that a bundle resumes from."""
    return folder / "checkpoints" / "last.pt"


def _spent(folder: Path) -> float:
    """Return the seconds of work that a resume goes on from."""
    if not _last(folder).is_file():
        return 0.0
    earlier = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    return float(earlier["seconds"] + max(0.0, _last(folder).stat().st_mtime - earlier["started"]))


def _train(command: Sequence[str], folder: Path, log: IO[bytes]) -> int:
    """Run a command with a bar of the epochs that are done; stop it when this process is stopped."""
    epochs = int(command[command.index("--epochs") + 1]) if "--epochs" in command else None
    with tqdm(total=epochs, unit="epoch", leave=False, disable=None) as bar:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    return process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    bar.update(_epochs(folder / "eval" / "metrics.csv") - bar.n)
        except BaseException:
            process.terminate()
            process.wait()
            raise


def _epochs(table: Path) -> int:
    return len(table.read_text(encoding="utf-8").splitlines()) - 1 if table.is_file() else 0
