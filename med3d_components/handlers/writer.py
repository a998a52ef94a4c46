"""The folders of a run belong to it alone while it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events

from med3d_components.utils.files import remove_leftovers
from med3d_components.utils.writer_lock import WriterLock

__all__ = ["SingleWriter"]

INSIDE = {"run_dir": ("checkpoints",)}
"""Folders in that of an option into which a run writes, too."""


class SingleWriter:
    """Lock the folders of a run from its start to its end, and remove what killed runs left half written in them.

    List this handler first, so that the others write nothing before. The first of several processes has the locks,
    and if it gets none, all end with its error.

    Args:
        folders: by the option that each is given by; one that several name is locked once.

    Raises:
        ValueError: when the engine starts, if another process writes into one of the folders, or none can be locked;
            later, if another one has taken a lock over, since this one did not run for ten minutes.
    """

    def __init__(self, folders: Mapping[str, str | os.PathLike[str]]) -> None:
        self.folders = {name: Path(folder) for name, folder in folders.items()}
        names: dict[Path, str] = {}
        for name, folder in self.folders.items():
            names.setdefault(folder.resolve(), name)
        self.locks = [WriterLock(folder, name) for folder, name in names.items()]

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or an evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.ITERATION_STARTED, self.check)
            engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: self.release())

    def start(self, engine: Engine) -> None:
        """Take the locks, or end all processes."""
        refused: ValueError | None = None
        if idist.get_rank() == 0:
            if not engine.has_event_handler(self.release, Events.COMPLETED):
                # Added now, these come after those of all other handlers, which write until the end.
                engine.add_event_handler(Events.COMPLETED, self.release)
                engine.add_event_handler(Events.TERMINATE, self.release_early)
                engine.add_event_handler(Events.EXCEPTION_RAISED, _pass_on)
            try:
                for lock in self.locks:
                    lock.acquire()
                self._clean()
            except ValueError as error:
                self.release()
                refused = error
        if problem := idist.broadcast(str(refused or ""), src=0):
            raise refused or ValueError(problem)

    def check(self) -> None:
        """Make sure that no other process has taken a lock over."""
        for lock in self.locks:
            lock.check()

    def release(self) -> None:
        """Give the locks back."""
        for lock in self.locks:
            lock.release()

    def release_early(self, engine: Engine) -> None:
        """Give the locks back where nothing is left to do, and COMPLETED will not come."""
        if engine.should_terminate == "skip_completed":
            self.release()

    def _clean(self) -> None:
        for name, folder in self.folders.items():
            for each in (folder, *(folder / inside for inside in INSIDE.get(name, ()))):
                remove_leftovers(each)


def _pass_on(error: BaseException) -> None:
    """Raise an error again, which ignite takes as dealt with where anything handles it."""
    raise error
