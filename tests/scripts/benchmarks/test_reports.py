from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks.reports import reports


@pytest.mark.slow
def test_an_epoch_is_timed_with_and_without_what_it_writes(tmp_path: Path) -> None:
    small = {"patch_size": [16, 16, 16], "widths": [[16, 8], [8, 8], [8, 8]]}
    reports(cases=3, epochs=1, options=small, out=str(tmp_path))
    content = json.loads((tmp_path / "reports.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in content["rows"]}
    assert list(rows)[:2] == ["with reports and checkpoints", "without"]
    assert {"TrainingCheckpoint", "TrainingReport", "CaseReport", "OverlayPictures"} <= set(rows)
    assert not {"ValidationHandler", "EpochSeeder"} & set(rows)
    assert 0 < rows["TrainingCheckpoint"]["share"] < 1
    assert content["about"]["resume file, MB"] > 50
