"""What a scan costs: seconds and memory."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import psutil
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from med3d_components.metrics.cases import UNNAMED, CaseMetric

__all__ = ["ScanCost"]

SAMPLE_S = 0.005
"""From one look at the memory of the process to the next, which takes 20 microseconds."""
MB = 1e6


class ScanCost(CaseMetric):
    """Seconds and memory that each scan takes, from when it is ready for the network to its result.

    That is the network's part, all its windows, and the postprocessing; not the reading and preparing, which other
    processes do in the meantime, and not the scoring.

    * "seconds": of a scan; the metric itself is the median over scans, of which the first is often slow.
    * "memory MB": what the process held at most, beyond what it held when the evaluation began (libraries and weights),
      from one look at its resident memory every 5 ms; the scan itself counts, what data workers hold does not.
    * "GPU memory MB": the most that tensors took, weights included, where the network runs on a CUDA device.

    It writes ``memory MB per scan`` and ``GPU memory MB per scan``, the most of any scan, into ``engine.state.metrics``
    beside itself, and a row per case into ``engine.state.metric_details[<name>]``. Of items that share a batch each
    takes an equal share of its seconds; those of several items of one case are added up.

    It stands among the handlers of an evaluator, behind the one that loads the weights.

    Example:
        >>> cost = ScanCost()
        >>> cost.update("-", "case 1", seconds=2.0, memory={"memory MB": 800.0})
        >>> cost.compute(), cost.summary()
        (2.0, {'memory MB per scan': 800.0})
    """

    def __init__(self) -> None:
        super().__init__()
        self.process = psutil.Process()
        self.held = 0
        self.start_time = 0.0
        self.last: tuple[float, dict[str, float]] = 0.0, {}
        self.watch: _Watch | None = None

    def attach(self, engine: Engine, name: str = "seconds per scan", *args: Any, **kwargs: Any) -> None:
        """Attach to an evaluator, as its handler or its metric."""
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_STARTED, self.start)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.stop)
        super().attach(engine, name, *args, **kwargs)

    def begin(self) -> None:
        """Note what the process holds before the first scan."""
        self.held = self.process.memory_info().rss

    def start(self, engine: Engine) -> None:
        """Begin with a batch."""
        if (device := _cuda_device(engine)) is not None:
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        self.watch = _Watch(self.process, engine)
        self.watch.start()
        self.start_time = time.perf_counter()

    def stop(self, engine: Engine) -> None:
        """End with a batch, when its results are there."""
        memory = {}
        if (device := _cuda_device(engine)) is not None:
            torch.cuda.synchronize(device)
            memory["GPU memory MB"] = torch.cuda.max_memory_allocated(device) / MB
        seconds = time.perf_counter() - self.start_time
        if self.watch is not None:
            memory = {"memory MB": max(0, self.watch.end() - self.held) / MB, **memory}
        self.last = seconds, memory

    def update(self, domain: str, case: str, seconds: float, memory: Mapping[str, float]) -> None:
        """Note what an item of a case has cost.

        Args:
            domain: its domain.
            case: its name.
            seconds: that it took.
            memory: at most, in MB of a million bytes, by the name of its column.
        """
        known = self.details.get((domain, case), {"seconds": 0.0})
        most = {name: max(amount, known.get(name, 0.0)) for name, amount in memory.items()}
        self.details[domain, case] = {"seconds": known["seconds"] + seconds, **most}

    def add(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Note the case of an item with its share of the batch's seconds."""
        seconds, memory = self.last
        self.update(item.get("domain", UNNAMED), item["case"], seconds, memory)

    def iteration_completed(self, engine: Engine) -> None:
        """Note the cases of the last batch."""
        seconds, memory = self.last
        self.last = seconds / max(1, len(engine.state.batch)), memory
        super().iteration_completed(engine)

    def score(self) -> float:
        """Return the median of the seconds; NaN without a scan."""
        return float(np.median([cost["seconds"] for cost in self.details.values()])) if self.details else float("nan")

    def summary(self) -> dict[str, float]:
        """Return the most memory of any scan, by where it lies."""
        names = dict.fromkeys(name for cost in self.details.values() for name in cost if name != "seconds")
        return {f"{name} per scan": max(cost.get(name, 0.0) for cost in self.details.values()) for name in names}

    def row(self, case: tuple[str, str], detail: Mapping[str, float]) -> dict[str, Any]:
        """Return "domain", if it has a name, "case", "seconds" and the memory in MB."""
        domain, name = case
        named = {} if domain == UNNAMED else {"domain": domain}
        memory = {key: round(amount, 1) for key, amount in detail.items() if key != "seconds"}
        return {**named, "case": name, "seconds": round(detail["seconds"], 3), **memory}


class _Watch(threading.Thread):
    """Looks at the memory of the process until it is told to end."""

    def __init__(self, process: psutil.Process, engine: Engine) -> None:
        super().__init__(daemon=True)
        self.process = process
        # A scan that fails never ends; its engine is gone then.
        self.engine = weakref.ref(engine)
        self.ended = threading.Event()
        self.most = process.memory_info().rss

    def run(self) -> None:
        while self.engine() is not None and not self.ended.wait(SAMPLE_S):
            self.most = max(self.most, self.process.memory_info().rss)

    def end(self) -> int:
        """Return the most that was seen, in bytes."""
        self.ended.set()
        self.join()
        return max(self.most, self.process.memory_info().rss)


def _cuda_device(engine: Engine) -> torch.device | None:
    device = torch.device(getattr(engine.state, "device", "cpu"))
    return device if device.type == "cuda" else None
