"""The code of ``scripts/kill_trainings.py``: trainings that are killed, and what must be left of them."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from med3d_components.utils import write_json, write_table
from scripts.samples import write_nodules, write_sample
from scripts.study.cells import check_same

__all__ = ["differences", "kill_trainings"]

ROOT = Path(__file__).parents[2]
STUDY = "transfer_study"
LIVERS, NODULES = "Synthetic_Livers", "Synthetic_Nodules"
DATA = {
    "genesis_pretraining": LIVERS,
    "liver_ct_coarse_segmentation": LIVERS,
    "liver_ct_fine_segmentation": LIVERS,
    "lung_nodule_ct_classification": NODULES,
    "lung_segmentation": "Synthetic_Lungs",
    "med3d_pretraining": "domains",
    STUDY: NODULES,
}
"""What is trained, and on what of the sample data."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "genesis_pretraining": {"architecture": "resnet", "max_tissue": 1, "margin": [0, 0, 0], "learning_rate": 0.01},
    "lung_segmentation": {"spacing": [8, 8, 8]},
}
"""More than the smoke.json of a bundle has, where the sample data need it."""
WORKERS = 1
"""Of the data loader: they outlive a training that is killed."""
MOST_KILLS = 3
"""Of one training."""
ATTEMPTS = 5
"""To end a training that is no longer killed; a study waits for the training that outlived it in between."""
PATIENCE_S = 1800
CHANGING = ("time", "seconds", "date")
"""Columns of tables that tell of a run, not of its result."""
RESULTS = ("model.pt", "encoder.pt", "metrics.csv", "cases.csv")


class Killed(NamedTuple):
    """A kill.

    Attributes:
        signal: that was sent.
        whom: "all" processes of the run, or the "first" alone.
        after_s: seconds from the start of the process.
        epoch: number of epochs in its table by then.
        code: what it ended with.
    """

    signal: str
    whom: str
    after_s: float
    epoch: int
    code: int

    def __str__(self) -> str:
        return f"{self.signal} {self.whom} {self.after_s:.1f} s, epoch {self.epoch} -> {self.code}"


def kill_trainings(
    out: str,
    kills: int = 50,
    targets: str | Sequence[str] | None = None,
    seed: int = 0,
    epochs: int = 6,
    checkpoint_minutes: float | None = None,
) -> None:
    """Kill trainings at random moments, resume them, and compare what is left with trainings that were let alone.

    Of the kills four in five are a SIGKILL, the others a SIGTERM, to the process or to it and its workers. Four in five
    come after the training has locked its folder, the others at any moment from the start of the process.

    Args:
        out: folder for data, trainings and kills.csv.
        kills: in all.
        targets: bundles, or transfer_study; by default all.
        seed: of the moments.
        epochs: of each training.
        checkpoint_minutes: between two resume files; by default that of the bundles.
    """
    names = list(DATA) if targets is None else [targets] if isinstance(targets, str) else list(targets)
    if unknown := [name for name in names if name not in DATA]:
        raise ValueError(f"targets has {unknown[0]!r}, but must be among {', '.join(DATA)}.")
    folder, table = Path(out), Path(out, "kills.csv")
    settings = {"seed": seed, "epochs": epochs, "checkpoint_minutes": checkpoint_minutes}
    check_same(folder / "settings.json", settings)
    write_json(folder / "settings.json", settings)
    rows = _read(table)
    for index, name in enumerate(names):
        wanted = kills // len(names) + (index < kills % len(names))
        target = Target(name, folder, epochs, checkpoint_minutes)
        while (done := sum(int(row["kills"]) for row in rows if row["target"] == name)) < wanted:
            trial = sum(row["target"] == name for row in rows)
            row = _try(target, trial, random.Random(f"{seed} {name} {trial}"), wanted - done)
            rows.append(row)
            write_table(table, rows)
            print(f"{name} {trial}: {row['kills']} kills ({row['moments']}): {row['problems'] or 'as it should be'}")
    total, wrong = sum(int(row["kills"]) for row in rows), [row for row in rows if row["problems"]]
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(rows)} trainings are not as they should be; see {table}.")
    print(f"{total} kills of {len(rows)} trainings: nothing lost, nothing double. See {table}.")


class Target:
    """What is trained, and one training of it that was let alone.

    Args:
        name: of a bundle, or transfer_study.
        out: folder of all.
        epochs: of a training.
        checkpoint_minutes: between two resume files, None for the default.
    """

    def __init__(self, name: str, out: Path, epochs: int, checkpoint_minutes: float | None) -> None:
        self.name = name
        self.folder = out / name
        self.data = _write_data(DATA[name], out / "data")
        self.options = {**OPTIONS.get(name, {}), "num_workers": WORKERS}
        if checkpoint_minutes is not None:
            self.options["checkpoint_minutes"] = checkpoint_minutes
        self.epochs = epochs
        self.reference = self.folder / "reference"
        self.seconds, self.start_s = self._refer()

    def command(self, run_dir: Path) -> list[str]:
        """Return the command that trains, or goes on."""
        options: dict[str, Any] = {"dataset_dir": self.data, "epochs": self.epochs}
        if self.name == STUDY:
            small = {"patch_size": [24, 24, 24], "cube_spacing": [2, 2, 2], "batch_size": 4, **self.options}
            start = [str(ROOT / "scripts" / "transfer_study.py"), "run", "--bundle", "lung_nodule_ct_classification"]
            options |= {"out": run_dir, "seeds": 0, "options": json.dumps(small)}
        else:
            configs = [str(ROOT / "bundles" / self.name / "configs" / f"{name}.json") for name in ("train", "smoke")]
            start = ["-m", "monai.bundle", "run", "training", "--config_file", str(configs)]
            options |= {"run_dir": run_dir, "resume": (run_dir / "checkpoints" / "last.pt").is_file(), **self.options}
        return [sys.executable, *start, *(str(part) for name, x in options.items() for part in (f"--{name}", x))]

    def start(self, run_dir: Path) -> subprocess.Popen[bytes]:
        """Start the command, in a group of processes of its own."""
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        with run_dir.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                self.command(run_dir),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )

    def _refer(self) -> tuple[float, float]:
        """Train without a kill, once; return the seconds of all, and those until the folder was locked."""
        note = self.folder / "reference.json"
        if not note.is_file():
            shutil.rmtree(self.reference, ignore_errors=True)
            begin = time.perf_counter()
            process = self.start(self.reference)
            until_lock = _wait_for_lock(process, self.reference)
            if _end_of(process):
                raise ValueError(f"{self.name} fails without a kill; see {self.reference.with_suffix('.log')}.")
            write_json(note, {"seconds": time.perf_counter() - begin, "until the lock": until_lock})
        times = json.loads(note.read_text(encoding="utf-8"))
        return times["seconds"], times["until the lock"]


def differences(reference: Path, run: Path, epochs: int) -> list[str]:
    """Return what is not as in a run that was let alone.

    Args:
        reference: folder of that run.
        run: folder of the one that was killed, at its end.
        epochs: of both.
    """
    found = [f"{path.relative_to(run)} is left" for path in sorted(run.rglob(".*")) if not _is_within_hidden(path, run)]
    ours, theirs = (_results(folder) for folder in (run, reference))
    found += [f"{name} is {'missing' if name in theirs else 'one too many'}" for name in sorted(ours ^ theirs)]
    for name in sorted(ours & theirs):
        if name.endswith(".pt") and not _equal(*(_load(folder / name) for folder in (run, reference))):
            found.append(f"{name} differs")
        if name.endswith(".csv") and _table(run / name) != _table(reference / name):
            found.append(f"{name} differs")
        if name.endswith("metrics.csv"):
            counted = [int(float(row["epoch"])) for row in _table(run / name)]
            if counted != list(range(1, epochs + 1)):
                found.append(f"{name} has the epochs {counted}")
    return found


def _try(target: Target, trial: int, chance: random.Random, most: int) -> dict[str, Any]:
    """Train with some kills, and return the row of it."""
    run_dir = target.folder / f"trial_{trial}"
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.with_suffix(".log").unlink(missing_ok=True)
    begin, kills = time.perf_counter(), []
    for _ in range(min(most, chance.randint(1, MOST_KILLS))):
        process = target.start(run_dir)
        killed = _kill(process, target, run_dir, chance)
        if killed is None:  # it was done before
            break
        kills.append(killed)
    codes = []
    for _ in range(ATTEMPTS):
        codes.append(_end_of(target.start(run_dir)))
        if codes[-1] == 0:
            break
        time.sleep(target.seconds if target.name == STUDY else 0)
    problems = differences(target.reference, run_dir, target.epochs) if codes[-1] == 0 else []
    if codes[-1] or (len(codes) > 1 and target.name != STUDY):
        problems.insert(0, f"resuming ended with {', '.join(map(str, codes))}")
    if not problems:
        shutil.rmtree(run_dir)
    return {
        "target": target.name,
        "trial": trial,
        "kills": len(kills),
        "moments": "; ".join(map(str, kills)),
        "starts": len(kills) + len(codes),
        "seconds": round(time.perf_counter() - begin, 1),
        "problems": "; ".join(problems),
    }


def _kill(process: subprocess.Popen[bytes], target: Target, run_dir: Path, chance: random.Random) -> Killed | None:
    """Kill a process at a random moment; None if it had ended by then."""
    number = signal.SIGKILL if chance.random() < 0.8 else signal.SIGTERM
    whom, share, anywhere = chance.choice(("first", "all")), chance.random(), chance.random() < 0.2
    begin = time.perf_counter()
    if not anywhere:
        _wait_for_lock(process, run_dir)
    delay = target.seconds if anywhere else target.seconds - target.start_s
    try:
        process.wait(share * delay)
    except subprocess.TimeoutExpired:
        after = time.perf_counter() - begin
        epoch = sum(len(_read(path)) for path in run_dir.rglob("metrics.csv") if "previous" not in path.parts)
        if whom == "all":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        return Killed(number.name, whom, after, epoch, _end_of(process))
    if process.returncode:  # the last training, of a study that was killed, is at it
        time.sleep(target.seconds)
    else:  # the machine is faster than it was
        target.seconds, target.start_s = 0.7 * target.seconds, 0.7 * target.start_s
    return None


def _end_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process, and return its code; it does not outlive this one."""
    try:
        return process.wait(PATIENCE_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def _wait_for_lock(process: subprocess.Popen[bytes], folder: Path) -> float:
    """Wait until the training of a process has locked its folder; return how long that took."""
    begin = time.perf_counter()
    while process.poll() is None:
        for lock in folder.rglob(".writer.json"):
            # Not that of one that was killed before.
            if lock.stat().st_mtime > time.time() - (time.perf_counter() - begin) - 1:
                return time.perf_counter() - begin
        time.sleep(0.02)
    return time.perf_counter() - begin


def _write_data(name: str, folder: Path) -> Path:
    path = folder / name
    if name == NODULES:
        write_nodules(path, 8, 0)
    elif name == "domains":
        for domain in ("Task04_Hippocampus", "Task09_Spleen"):
            write_sample(path / domain, 4, 0)
    else:
        write_sample(path, 4, 0)
    return path.absolute()


def _read(table: Path) -> list[dict[str, Any]]:
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file)]


def _table(path: Path) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key not in CHANGING} for row in _read(path)]


def _results(folder: Path) -> set[str]:
    """Return the files of a result, without those of earlier starts, which were moved aside."""
    paths = [path.relative_to(folder) for name in RESULTS for path in folder.rglob(name)]
    return {path.as_posix() for path in paths if "previous" not in path.parts}


def _is_within_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts[:-1])


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _equal(one: Any, other: Any) -> bool:
    """Tell whether two checkpoints are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)
