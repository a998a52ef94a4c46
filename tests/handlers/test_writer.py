from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ignite.engine import Engine, Events

from med3d_components.handlers import SingleWriter
from med3d_components.utils.writer_lock import LOCK, FolderInUseError, WriterLock
from tests.conftest import ROOT


def make(tmp_path: Path) -> tuple[Engine, SingleWriter]:
    engine = Engine(lambda engine, batch: None)
    folders = {
        "run_dir": tmp_path,
        "ckpt_dir": tmp_path / "models",
        "output_dir": tmp_path / "models" / ".." / "models",
    }
    writer = SingleWriter(folders)
    writer.attach(engine)
    return engine, writer


def locked(tmp_path: Path) -> list[str]:
    return sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob(LOCK))


def test_the_folders_of_a_run_are_locked_from_before_the_others_start_until_they_have_ended(tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    seen: dict[str, list[str]] = {}

    def look(engine: Engine, event: Events) -> None:
        seen[event.value] = locked(tmp_path)

    for event in (Events.STARTED, Events.ITERATION_COMPLETED, Events.COMPLETED):
        engine.add_event_handler(event, look, event)
    for _ in range(2):
        seen.clear()
        engine.run([0])
        assert list(seen.values()) == [[".", "models"]] * 3  # one that two options name once
        assert not list(tmp_path.iterdir())


def test_an_error_gives_the_locks_back_and_is_raised(tmp_path: Path) -> None:
    for error in (ValueError("broken"), KeyboardInterrupt()):
        engine, _ = make(tmp_path)

        def fail(engine: Engine, error: BaseException) -> None:
            assert locked(tmp_path)
            raise error

        engine.add_event_handler(Events.ITERATION_COMPLETED, fail, error)
        with pytest.raises(type(error)):
            engine.run([0])
        assert not list(tmp_path.iterdir())


def test_a_run_that_ends_before_its_first_step_gives_the_locks_back(tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    engine.add_event_handler(Events.STARTED, lambda: engine.terminate(skip_completed=True))
    engine.run([0])
    assert not list(tmp_path.iterdir())


def test_where_another_writes_nothing_is_touched_and_no_lock_is_kept(tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    (tmp_path / ".writing-a1b2").mkdir()
    with WriterLock(tmp_path / "models") as other:
        with pytest.raises(FolderInUseError, match=r"^ckpt_dir is .+ or name another ckpt_dir"):
            engine.run([0])
        assert locked(tmp_path) == ["models"]
        assert other.held
    assert (tmp_path / ".writing-a1b2").exists()


def test_what_killed_runs_were_writing_is_removed_and_nothing_else(tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    ours = [tmp_path / name / ".writing-a1b2" for name in (".", "checkpoints", "models")]
    others = [
        tmp_path / name for name in (".writing-notes.txt", ".hidden/x", "data/.writing-a1b2/x", "models/model.pt")
    ]
    for path in (*(folder / "last.pt" for folder in ours), *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    engine.run([0])
    assert not [path for path in ours if path.exists()]
    assert all(path.exists() for path in others)


def test_a_run_whose_lock_was_taken_over_stops(tmp_path: Path) -> None:
    engine, writer = make(tmp_path)

    @engine.on(Events.ITERATION_COMPLETED)
    def lose() -> None:
        writer.locks[0]._lost.set()

    with pytest.raises(FolderInUseError, match="it stops"):
        engine.run([0, 1])
    assert engine.state.iteration == 2
    assert os.listdir(tmp_path) == []


PROCESS = """
import sys
import ignite.distributed as idist
from ignite.engine import Engine
from med3d_components.handlers import SingleWriter
idist.initialize("gloo")
engine = Engine(lambda engine, batch: None)
SingleWriter({"run_dir": sys.argv[1]}).attach(engine)
try:
    engine.run([0])
    print("ran", flush=True)
except ValueError as error:
    print(f"refused: {error}", flush=True)
"""


@pytest.mark.slow
def test_of_several_processes_the_first_has_the_lock_and_all_end_where_it_gets_none(tmp_path: Path) -> None:
    script, run_dir = tmp_path / "process.py", tmp_path / "run"
    script.write_text(PROCESS)

    def train() -> list[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, str(script), str(run_dir)],
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=True,
            timeout=240,
        )
        return done.stdout.splitlines()

    assert train() == ["ran", "ran"]
    assert not run_dir.exists()
    with WriterLock(run_dir):
        lines = train()
    assert len(lines) == 2
    assert len(set(lines)) == 1
    assert lines[0].startswith(f"refused: run_dir is {run_dir}, into which process {os.getpid()} on ")
