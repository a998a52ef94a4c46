from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from typing import Any

import pytest

import scripts.planner.commands as script
from med3d_components.planning.memory import Peak
from scripts.planner.commands import largest_edges, plan_memory
from scripts.planner.measuring import MEASURING_ENVIRONMENT
from tests.conftest import ROOT


@pytest.fixture
def cubic(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Let a training need 1000 bytes per voxel, and note the settings that were asked for."""
    asked: list[tuple[int, int]] = []

    def predict(make: partial[Any]) -> Peak:
        _, region, batch_size, _ = make.args
        asked.append((region[0], batch_size))
        return Peak(activations=1000 * batch_size * region[0] * region[1] * region[2])

    monkeypatch.setattr(script, "predict_peak", predict)
    return asked


def test_the_largest_edge_leaves_a_fifth_free_and_the_next_would_not() -> None:
    def total(edge: int) -> int:
        return 1000 * edge**3

    memories = [1.25 * total(96), 1.25 * total(96) - 1, 0, 1e15]
    assert largest_edges(total, memories) == [96, 64, 0, 512]


def test_without_a_setting_the_table_alone_is_printed(
    cubic: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan_memory("lung_segmentation")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["memory", "batch", "1", "batch", "2", "batch", "4"]
    assert [line.split()[:2] for line in lines[2:]] == [[str(size), "GB"] for size in (8, 12, 16, 24, 40, 80)]
    for line in lines[2:]:
        memory, _, *edges = line.split()
        for edge, batch_size in zip(map(int, edges), (1, 2, 4), strict=True):
            needed = [1.25 * 1000 * batch_size * length**3 for length in (edge, edge + 32)]
            assert needed[0] <= int(memory) * 1e9 < needed[1]
    assert len(cubic) == len(set(cubic))  # nothing is predicted twice


def test_a_setting_prints_its_parts_and_one_number_is_a_cube(
    cubic: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan_memory("lung_segmentation", patch_size=100, table="false")
    assert cubic == [(100, 2)]
    output = capsys.readouterr().out
    assert output.startswith("Patch 100x100x100, batch size 2:")
    assert re.search(r"activations +2\.00 GB", output)
    assert re.search(r"sum +2\.00 GB", output)


def test_the_region_is_that_of_the_bundle_unless_it_is_given(
    cubic: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    plan_memory("liver_ct_fine_segmentation", batch_size=1, table=False)
    assert cubic == [(128, 1)]
    assert capsys.readouterr().out.startswith("Patch 128x128x128, batch size 1:")


@pytest.mark.slow
def test_a_measurement_stands_beside_the_prediction(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in MEASURING_ENVIRONMENT:
        monkeypatch.setenv(name, "0")  # so that what the command sets does not outlast the test
    plan_memory("lung_nodule_ct_classification", 24, 1, measure="true", table=False, depth=10)
    assert re.search(r"measured +\d\.\d\d GB in \d+ s; the prediction is \d\.\d\d of it", capsys.readouterr().out)


def test_a_mistake_ends_in_one_line() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "plan_memory.py"), "--bundle", "lungs"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: There is no bundle lungs; there are genesis_pretraining, ")
    assert "Traceback" not in done.stderr
