from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks.startup import startup


@pytest.mark.slow
def test_the_import_of_every_module_is_timed_beside_monais(tmp_path: Path) -> None:
    startup(repeats=1, out=str(tmp_path))
    (row,) = json.loads((tmp_path / "startup.json").read_text(encoding="utf-8"))["rows"]
    assert int(row["name"].split()[0]) > 80
    assert row["ours_s"] == pytest.approx(row["monai and ours_s"] - row["monai_s"])
