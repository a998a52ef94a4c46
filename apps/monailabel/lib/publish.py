"""Serve what a training has learnt so far."""

from __future__ import annotations

import shutil
from pathlib import Path

from ignite.engine import Engine, Events

from med3d_components.utils import atomic_path, move_aside

__all__ = ["Publish"]


class Publish:
    """After each epoch that made a better network: copy it to where the server looks.

    A training that fails in its first epoch, or is stopped in it, leaves the served weights as they were. Those that
    the first better network replaces are kept, in ``previous/N`` beside it.

    Args:
        trained: folder where the training keeps model.pt, settings.json and split.json.
        served: folder where the server looks for them.
    """

    def __init__(self, trained: str, served: str) -> None:
        self.trained, self.served = Path(trained), Path(served)
        self.published = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the handler that saves."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.publish)

    def publish(self) -> None:
        """Copy settings, split and weights if the weights are newer than those copied last."""
        model = self.trained / "model.pt"
        changed = model.stat().st_mtime_ns if model.is_file() else 0
        if changed <= self.published:
            return
        names = [name for name in ("settings.json", "split.json", model.name) if (self.trained / name).is_file()]
        if not self.published:
            move_aside([self.served / name for name in names], self.served / "previous")
        for name in names:
            with atomic_path(self.served / name) as temporary:
                shutil.copyfile(self.trained / name, temporary)
        self.published = changed
