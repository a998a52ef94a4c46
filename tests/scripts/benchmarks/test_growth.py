from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks.growth import _power, growth


def test_the_power_of_a_growth_is_found() -> None:
    assert _power([1, 10, 100], [3, 30, 300]) == pytest.approx(1)
    assert _power([2, 4, 8], [4, 16, 64]) == pytest.approx(2)


def test_every_growth_is_measured_at_each_size_and_drawn(tmp_path: Path) -> None:
    growth(sizes=(12, 16), domains=(2, 3), volumes=(4, 8), out=str(tmp_path))
    rows = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["name"], row["number"]) for row in rows] == [
        ("voxels prepared", 12**3),
        ("voxels prepared", 16**3),
        ("domains, a step", 2),
        ("domains, a step", 3),
        ("volumes, their headers", 4),
        ("volumes, their headers", 8),
    ]
    assert all(row["s"] > 0 for row in rows)
    assert (tmp_path / "growth.png").stat().st_size > 5000
