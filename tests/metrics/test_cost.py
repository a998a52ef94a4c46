from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from med3d_components.metrics import ScanCost
from med3d_components.metrics.cost import _Watch
from tests.warm_python import SERVER


def evaluate(*work: Any, items: int = 1) -> Engine:
    """Run an evaluation whose scans do this work."""

    def step(engine: Engine, scan: Any) -> list[dict[str, Any]]:
        scan()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        engine.state.batch = [{"case": f"{engine.state.iteration}{'abc'[n]}"} for n in range(items)]
        time.sleep(0.05)  # what is scored, which is no part of it
        return [{}] * items

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    engine.state.metric_details = {}
    ScanCost().attach(engine)
    engine.run(list(work))
    return engine


def test_the_seconds_of_a_scan_are_those_of_the_network() -> None:
    state = evaluate(lambda: time.sleep(0.3), lambda: time.sleep(0.1), lambda: time.sleep(0.12)).state
    rows = state.metric_details["seconds per scan"]
    assert [row["case"] for row in rows] == ["1a", "2a", "3a"]
    assert [row["seconds"] for row in rows] == pytest.approx([0.3, 0.1, 0.12], abs=0.04)
    assert state.metrics["seconds per scan"] == pytest.approx(0.12, abs=0.04)  # the median: the first scan is slow


def take_memory() -> None:
    data = np.ones(40_000_000)  # 320 MB
    time.sleep(0.05)
    del data


def memory_of_two_scans() -> tuple[list[float], float]:
    state = evaluate(take_memory, lambda: None).state
    rows = state.metric_details["seconds per scan"]
    return [row["memory MB"] for row in rows], state.metrics["memory MB per scan"]


def test_the_memory_of_a_scan_is_what_it_took_at_most_and_gave_back() -> None:
    # In a process of its own: what tests before left behind may be given back at any time.
    with ProcessPoolExecutor(1, mp_context=SERVER) as pool:
        (first, second), most = pool.submit(memory_of_two_scans).result()
    assert 310 < first < 400
    assert second < 80
    assert most == pytest.approx(first, abs=0.1)


def test_scans_of_a_batch_share_its_seconds() -> None:
    rows = evaluate(lambda: time.sleep(0.2), items=2).state.metric_details["seconds per scan"]
    assert [row["seconds"] for row in rows] == pytest.approx([0.1, 0.1], abs=0.03)


def test_nothing_goes_on_looking_after_a_scan_that_fails() -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        evaluate(fail)
    gc.collect()
    deadline = time.monotonic() + 5
    while any(isinstance(thread, _Watch) for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(isinstance(thread, _Watch) for thread in threading.enumerate())
