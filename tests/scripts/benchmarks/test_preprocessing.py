from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks.preprocessing import caching, preprocessing

COLUMNS = ["name", "ours_s", "baseline_s", "ratio", "ours_peak_mib", "baseline_peak_mib"]


def test_a_packed_file_and_a_dicom_series_are_prepared_both_ways(tmp_path: Path) -> None:
    preprocessing(size=(40, 36, 12), repeats=1, out=str(tmp_path))
    record = json.loads((tmp_path / "preprocessing.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in record["rows"]] == ["NIfTI, gzip", "DICOM series"]
    for row in record["rows"]:
        assert list(row) == COLUMNS
        assert row["ratio"] == pytest.approx(row["baseline_s"] / row["ours_s"])
    assert record["about"]["target_mm"] == [1.5, 1.5, 1.5]


def test_what_the_cache_saves_is_measured_without_and_with_the_random_transforms(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caching(size=(64, 60, 24), region=(16, 16, 16), repeats=1, out=str(tmp_path))
    record = json.loads((tmp_path / "caching.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in record["rows"]] == ["prepared volume", "training sample"]
    assert record["about"]["region"] == [16, 16, 16]
    assert not caplog.records  # no entry had to be made anew
