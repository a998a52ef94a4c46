"""One process at a time writes into a folder: a file in it says which; one that was left behind is taken over.

The file, ``.writer.json``, holds who writes: host, process id, when that process started, its command, since when. It
is made by a hard link, which succeeds for one process only. The writer touches it once a minute.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import sys
import threading
import uuid
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

__all__ = ["FolderInUseError", "WriterLock"]

logger = logging.getLogger(__name__)

LOCK = ".writer.json"
TOUCH_S = 60.0
"""How often a writer shows that it lives."""
SILENT_S = 600.0
"""How long a writer whose process cannot be looked up may be silent."""
SAME_START_S = 2.0
"""Two starts of processes of one id that lie no further apart are one: the system rounds."""
EXIT_S = 5.0
"""How long the end of a run waits for a file server that does not answer."""


class FolderInUseError(ValueError):
    """Another process writes into a folder; the message says which, since when, and what to do."""


class WriterLock:
    """The right to write into a folder, which one process has at a time.

    It ends with :meth:`release`, with the block of a ``with`` statement, or with the process. A lock whose process is
    gone is taken over: on the same machine, by its id and start; of another machine, or another container on this one,
    once its file was not touched for ten minutes by the clock of the file server. Processes that were forked
    do not hold it.

    Args:
        folder: made if it does not exist, and removed again if it is still empty at the end.
        name: of the folder in messages, such as the option that it was given by.
        file: name of the lock in the folder.

    Example:
        >>> with WriterLock("eval") as lock:
        ...     sorted(path.name for path in Path("eval").iterdir())
        ['.writer.json']
        >>> lock.held, Path("eval").exists()
        (False, False)
    """

    def __init__(self, folder: str | os.PathLike[str], name: str = "folder", file: str = LOCK) -> None:
        self.folder = Path(folder)
        self.name = name
        self.path = self.folder / file
        self._lost = threading.Event()
        self._end: weakref.finalize[[Path, str, threading.Event, threading.Thread, list[Path], int], Any] | None = None

    @property
    def held(self) -> bool:
        """Tell whether this object has the lock."""
        return self._end is not None and self._end.alive

    def acquire(self) -> None:
        """Take the lock, and say whose it was if it was left behind.

        Raises:
            FolderInUseError: if another process has it.
            ValueError: if the folder's file system does not let a lock be made.
        """
        if self.held:
            return
        me = Holder.this_process()
        above = [self.folder.absolute(), *self.folder.absolute().parents]
        made = [path for path in above if not path.exists()]
        fresh = self.path.with_name(f"{self.path.name}-{me.token}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(fresh, me)
            try:
                self._claim(self.path, fresh, me)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            _remove_empty(made)
            reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
            raise ValueError(
                f"{self.name} is {self.folder}, in which no lock can be made ({reason}), so that two runs could write "
                "there at once; name another one."
            ) from error
        self._lost.clear()
        stop = threading.Event()
        beat = threading.Thread(target=_stay_alive, args=(self.path, me, stop, self._lost), daemon=True)
        beat.start()
        self._end = weakref.finalize(self, _release, self.path, me.token, stop, beat, made, os.getpid())
        self._remove_old()

    def check(self) -> None:
        """Make sure that the lock was not taken over, as after a night in which this machine slept.

        Raises:
            FolderInUseError: if it was.
        """
        if self.held and self._lost.is_set():
            holder = _read(self.path)
            by = f" by {holder.describe()}" if holder else ""
            raise FolderInUseError(
                f"{self.name} is {self.folder}, which was taken over{by} while this process was silent for more than "
                f"{SILENT_S / 60:g} minutes; it stops, so that not both write there."
            )

    def release(self) -> None:
        """Give the lock back; without one, nothing happens."""
        if self._end is not None:
            self._end()

    def __enter__(self) -> WriterLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _claim(self, path: Path, fresh: Path, me: Holder) -> None:
        """Make a file of the own content at ``path``, where there is none or that of a process that is gone.

        Of several that find the same one left behind, only the one that holds a second lock, named after it, may
        remove it, and only while it is still that one: never the file of who was faster.
        """
        while True:
            try:
                _link(fresh, path, me)
                return
            except FileExistsError:
                holder = _read(path)
            if holder is None:
                continue  # given back in this moment
            if holder.token == me.token:
                return  # a file server that lost its answer
            self._check_gone(holder, path, fresh)
            guard = self.path.with_name(f"{self.path.name}-of-{holder.token}")
            self._claim(guard, fresh, me)
            try:
                found = _read(path)
                if found is not None and found.token == holder.token:
                    path.unlink()
                    if path == self.path:
                        logger.info("%s was left locked by %s, which is gone.", self.folder, holder.describe())
            finally:
                guard.unlink()

    def _check_gone(self, holder: Holder, path: Path, fresh: Path) -> None:
        try:
            silent_s = fresh.stat().st_mtime - path.stat().st_mtime  # both by the file server's clock
        except FileNotFoundError:
            return
        running = holder.is_running()
        if running is False or (running is None and silent_s >= SILENT_S):
            return
        unsure = (
            ""
            if running
            else (
                f" It cannot be looked up from here, and was last seen {max(silent_s, 0):.0f} s ago; after "
                f"{SILENT_S / 60:g} minutes it counts as gone. If you know that it is, delete {path}."
            )
        )
        raise FolderInUseError(
            f"{self.name} is {self.folder}, into which {holder.describe()} has written since {holder.since}; "
            f"wait for its end, or name another {self.name}.{unsure}"
        )

    def _remove_old(self) -> None:
        """Remove what processes left that were killed while they took the lock."""
        for path in self.folder.glob(f"{self.path.name}-*"):
            with suppress(OSError):
                if self.path.stat().st_mtime - path.stat().st_mtime > SILENT_S:
                    path.unlink()


@dataclass(frozen=True)
class Holder:
    """Who has a lock.

    Attributes:
        host: its name.
        machine: what its process ids are unique in: a run of its kernel, and there a container.
        pid: of the process.
        started: when that process started, in seconds since the machine did.
        command: that it runs.
        since: when it took the lock.
        token: unique.
    """

    host: str
    machine: str
    pid: int
    started: float
    command: str
    since: str
    token: str

    @classmethod
    def this_process(cls) -> Holder:
        """Return this process, with a new token."""
        return cls(
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            started=_start(psutil.Process()),
            command=" ".join(shlex.join(sys.orig_argv).split()),  # one line
            since=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
            token=uuid.uuid4().hex,
        )

    @classmethod
    def from_json(cls, text: str) -> Holder:
        """Read a lock; what it should hold and does not makes it that of an unknown process."""
        with suppress(ValueError, TypeError):
            holder = cls(**json.loads(text))
            fits = all(isinstance(value, _TYPES[name]) for name, value in asdict(holder).items())
            # The token becomes part of a file's name.
            if fits and 0 < holder.pid < 2**31 and holder.token.isalnum():
                return holder
        return cls("an unknown host", "", 0, 0.0, "", "an unknown time", "unknown")

    def describe(self) -> str:
        """Return who it is, for a message."""
        return f"process {self.pid} on {self.host}" if self.pid else "an unknown process"

    def is_running(self) -> bool | None:
        """Tell whether the process runs, None where it cannot be looked up."""
        if self.machine != _machine():
            return None
        try:
            process = psutil.Process(self.pid)
            dead = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
            return not dead and abs(_start(process) - self.started) < SAME_START_S
        except psutil.AccessDenied:
            return None
        except psutil.NoSuchProcess:
            return None if _is_hidden(self.pid) else False


_TYPES: Mapping[str, Any] = {
    **dict.fromkeys(("host", "machine", "command", "since", "token"), str),
    "pid": int,
    "started": int | float,
}


def _machine() -> str:
    try:
        # Containers have the name and the kernel of their machine, but process ids of their own.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _start(process: psutil.Process) -> float:
    # The difference does not change when the clock is set.
    return float(process.create_time() - psutil.boot_time())


def _is_hidden(pid: int) -> bool:
    """Tell whether there is a process of another user that the system does not show."""
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def _read(path: Path) -> Holder | None:
    try:
        return Holder.from_json(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None


def _write(path: Path, holder: Holder) -> None:
    with path.open("x", encoding="utf-8") as file:
        json.dump(asdict(holder), file, indent=2)


def _link(fresh: Path, path: Path, me: Holder) -> None:
    """Make ``path`` with its whole content at once, or raise a FileExistsError."""
    try:
        os.link(fresh, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        _write(path, me)


def _stay_alive(path: Path, me: Holder, stop: threading.Event, lost: threading.Event) -> None:
    """Touch the lock until told to stop, and tell if it is another's by now."""
    while not stop.wait(TOUCH_S):
        with suppress(OSError):  # a file server that is away for a while
            holder = _read(path)
            if holder is None:  # somebody deleted it
                _write(path, me)
            elif holder.token != me.token:
                lost.set()
                return
            os.utime(path)


def _release(path: Path, token: str, stop: threading.Event, beat: threading.Thread, made: list[Path], pid: int) -> None:
    if os.getpid() != pid:  # a forked process
        return
    stop.set()
    if beat is not threading.current_thread():
        beat.join(EXIT_S)
    with suppress(OSError):
        holder = _read(path)
        if holder is not None and holder.token == token:
            path.unlink()
    _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, the innermost first, as long as they are empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
