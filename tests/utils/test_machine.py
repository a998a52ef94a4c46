from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from med3d_components.utils import machine
from med3d_components.utils.machine import default_workers, free_memory, limit_threads, usable_cores


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let the process run on six cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    return 6


@pytest.mark.parametrize(("text", "expected"), [("max 100000", 6), ("250000 100000", 3), ("50000 100000", 1)])
def test_the_quota_of_a_container_limits_the_cores(text: str, expected: int, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert usable_cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 6), ("200000", 2)])
def test_so_does_that_of_the_older_version(quota: str, expected: int, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_cores(tmp_path) == expected


def test_without_a_quota_the_affinity_counts(cores: int, tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_memory_of_a_machine_is_that_of_its_container(file: str, tmp_path: Path) -> None:
    whole = free_memory(torch.device("cpu"), tmp_path)
    assert whole > 2**20
    (tmp_path / file).parent.mkdir(exist_ok=True)
    for text, least, most in (("max", 2**20, 2**60), ("1048576", 2**20, 2**20)):
        (tmp_path / file).write_text(text + "\n")
        assert least <= free_memory(torch.device("cpu"), tmp_path) <= most


@pytest.mark.parametrize(("usable", "processes", "workers"), [(1, 1, 1), (6, 1, 6), (64, 1, 8), (16, 8, 2), (2, 8, 1)])
def test_each_process_gets_its_share_of_workers(
    usable: int, processes: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: usable)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert default_workers() == workers


def test_threads_follow_the_cores_unless_a_person_said_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 32)
    monkeypatch.setattr(machine, "usable_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "32")
    limit_threads()
    monkeypatch.delenv("OMP_NUM_THREADS")
    limit_threads()
    assert chosen == [3]
