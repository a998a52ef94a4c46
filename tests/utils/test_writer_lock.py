"""One writer in a folder: real processes, on real files."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from med3d_components.utils import writer_lock
from med3d_components.utils.writer_lock import LOCK, SILENT_S, FolderInUseError, Holder, WriterLock
from tests.conftest import ROOT

HOLD = """
import sys, time
from med3d_components.utils.writer_lock import WriterLock
lock = WriterLock(sys.argv[1])
lock.acquire()
print("locked", flush=True)
{then}
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that locks a folder, and then does something else."""
    started: list[subprocess.Popen[str]] = []

    def run(folder: Path, then: str = "time.sleep(60)", wait: bool = True) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD.format(then=then), str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        if wait:
            assert process.stdout.readline() == "locked\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / LOCK).read_text(encoding="utf-8"))
    return found


def leave(folder: Path, age_s: float = 0, **changes: Any) -> None:
    """Leave the lock of a process, as if it had been touched some time ago."""
    folder.mkdir(exist_ok=True)
    holder = {**vars(Holder.this_process()), **changes}
    path = folder / "left.json"
    path.write_text(json.dumps(holder), encoding="utf-8")
    os.utime(path, (time.time() - age_s,) * 2)
    path.replace(folder / LOCK)  # at once: a holder that reads half of it takes it for none


def test_a_second_process_is_told_who_writes_since_when_and_what_to_do(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path)
    holder = content(tmp_path)
    assert (holder["pid"], holder["host"]) == (process.pid, os.uname().nodename)
    with pytest.raises(FolderInUseError) as caught:
        WriterLock(tmp_path, "run_dir").acquire()
    message = str(caught.value)
    assert message.startswith(f"run_dir is {tmp_path}, into which process {process.pid} on {holder['host']}")
    assert message.endswith(f" has written since {holder['since']}; wait for its end, or name another run_dir.")
    assert len(message.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("end", ["sys.exit(1)", "raise KeyboardInterrupt", "lock.release(); time.sleep(60)", ""])
def test_the_lock_ends_with_its_process_an_error_an_interruption_and_its_release(
    tmp_path: Path, start: Start, end: str
) -> None:
    process = start(tmp_path / "new" / "run", then=end)
    if "sleep" not in end:
        process.wait()
    deadline = time.time() + 10
    while (tmp_path / "new").exists() and time.time() < deadline:
        time.sleep(0.02)
    assert not list(tmp_path.iterdir())  # nor the folders that it had made


def test_a_killed_process_blocks_nobody_even_one_that_was_not_waited_for(
    tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    process = start(tmp_path)
    process.send_signal(signal.SIGKILL)
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    with caplog.at_level(logging.INFO), WriterLock(tmp_path):
        assert content(tmp_path)["pid"] == os.getpid()
    assert f"{tmp_path} was left locked by process {process.pid} on " in caplog.text
    assert not list(tmp_path.iterdir())


def test_workers_that_outlive_a_killed_process_do_not_hold_its_lock(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path, then="import os\npid = os.fork()\nif pid: print(pid, flush=True)\ntime.sleep(60)")
    worker = int(process.stdout.readline())
    assert worker > 1
    process.kill()
    process.wait()
    try:
        assert psutil.Process(worker).is_running()
        with WriterLock(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_forked_process_that_ends_leaves_the_lock_of_its_parent(tmp_path: Path, start: Start) -> None:
    start(tmp_path, then="import os\nif os.fork() == 0: sys.exit(0)\nos.wait(); print('ended', flush=True)\n"
                         "time.sleep(60)").stdout.readline()  # fmt: skip
    assert (tmp_path / LOCK).exists()
    with pytest.raises(FolderInUseError):
        WriterLock(tmp_path).acquire()


def test_an_id_that_another_process_has_by_now_is_no_writer(tmp_path: Path) -> None:
    leave(tmp_path, started=Holder.this_process().started - 100)
    with WriterLock(tmp_path):
        pass
    leave(tmp_path)
    with pytest.raises(FolderInUseError):
        WriterLock(tmp_path).acquire()


def test_a_writer_of_another_machine_or_container_counts_until_it_is_silent_for_ten_minutes(tmp_path: Path) -> None:
    boot = Holder.this_process().machine.partition(":")[0]
    for machine in ("another", f"{boot}:1"):  # a container has the kernel, and may have the host name, of this one
        leave(tmp_path, SILENT_S - 30, machine=machine, pid=2**22)
        with pytest.raises(
            FolderInUseError, match=r"last seen 5\d\d s ago; after 10 minutes .+ delete .+writer\.json\.$"
        ):
            WriterLock(tmp_path).acquire()
        leave(tmp_path, SILENT_S + 30, machine=machine)
        with WriterLock(tmp_path):
            pass


def test_silence_is_measured_by_the_clock_of_the_file_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    real = os.utime
    leave(tmp_path, machine="another")
    real(tmp_path / LOCK)
    with pytest.raises(FolderInUseError):
        WriterLock(tmp_path).acquire()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"token": "../../x"}', "\x00\xff"])
def test_a_lock_that_cannot_be_read_is_that_of_an_unknown_process_until_it_is_silent(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_text(text, encoding="latin-1")
    with pytest.raises(FolderInUseError, match="into which an unknown process has written since an unknown time"):
        WriterLock(tmp_path).acquire()
    os.utime(tmp_path / LOCK, (0, 0))
    with WriterLock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_of_many_that_find_a_lock_left_behind_one_wins(tmp_path: Path) -> None:
    def race(lock: WriterLock) -> bool:
        try:
            lock.acquire()
        except FolderInUseError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for turn in range(40):
            folder = tmp_path / str(turn)
            leave(folder, pid=2**22)
            locks = [WriterLock(folder) for _ in range(8)]
            assert sum(pool.map(race, locks)) == 1
            for lock in locks:
                lock.release()
            assert not list(folder.iterdir())


def test_who_judged_a_lock_that_another_has_taken_over_since_does_not_remove_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, pid=2**22)
    slow, fast, judge = WriterLock(tmp_path), WriterLock(tmp_path), WriterLock._check_gone

    def judge_slowly(self: WriterLock, *arguments: Any) -> None:
        judge(self, *arguments)
        if self is slow and not fast.held:
            fast.acquire()

    monkeypatch.setattr(WriterLock, "_check_gone", judge_slowly)
    with pytest.raises(FolderInUseError):
        slow.acquire()
    assert fast.held
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    fast.release()


def test_who_was_killed_while_it_took_a_lock_over_blocks_nobody(tmp_path: Path) -> None:
    gone = {"pid": 2**22, "token": "a1"}
    leave(tmp_path, **gone)
    for name in (f"{LOCK}-of-a1", f"{LOCK}-b2"):
        (tmp_path / name).write_text(json.dumps({**content(tmp_path), "token": "b2"}))
        os.utime(tmp_path / name, (0, 0))
    with WriterLock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    with WriterLock(tmp_path), pytest.raises(FolderInUseError):
        WriterLock(tmp_path).acquire()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_locked_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(writer_lock, "_write", refuse)
    with pytest.raises(ValueError, match=r"^run_dir is .+, in which no lock can be made \(read-only file system\)"):
        WriterLock(tmp_path / "new", "run_dir").acquire()
    assert not (tmp_path / "new").exists()


def test_the_writer_shows_that_it_lives_and_learns_that_its_lock_was_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_lock, "TOUCH_S", 0.01)
    with WriterLock(tmp_path, "run_dir") as lock:
        os.utime(tmp_path / LOCK, (0, 0))
        (tmp_path / LOCK).unlink()  # deleted by hand: it is written again
        deadline = time.time() + 10
        while not (tmp_path / LOCK).exists() or not (tmp_path / LOCK).stat().st_mtime > 0:
            assert time.time() < deadline
        lock.check()
        leave(tmp_path, host="faster")
        while not lock._lost.is_set():
            assert time.time() < deadline
        with pytest.raises(
            FolderInUseError, match=r"taken over by process .+ on faster while .+; it stops, so that not both"
        ):
            lock.check()
    assert content(tmp_path)["host"] == "faster"  # not ours to remove
