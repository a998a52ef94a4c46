from __future__ import annotations

import csv
import json
import platform
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmarks.stopwatch import Measured, as_row

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmark.py"
COLUMNS = ["name", "ours_s", "baseline_s", "ratio", "centre_shift_voxels"]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_the_spacing_benchmark_prints_a_table_and_writes_it_as_csv_and_json(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "spacing", "--size", "32,30,12", "--repeats", "1", "--out", str(tmp_path / "figures"))

    printed = capsys.readouterr().out
    assert all(word in printed for word in (*COLUMNS, "processor:", "threads:", "torch:", "label, nearest"))
    with (tmp_path / "figures" / "spacing.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert [row["name"] for row in rows] == ["image, bilinear", "image, bilinear, float32", "label, nearest"]
    record = json.loads((tmp_path / "figures" / "spacing.json").read_text(encoding="utf-8"))
    assert record["about"]["size"] == [32, 30, 12]
    assert [row["name"] for row in record["rows"]] == [row["name"] for row in rows]
    for row in record["rows"]:
        assert row["ratio"] == pytest.approx(row["baseline_s"] / row["ours_s"])


def test_both_resamplings_put_the_object_at_one_place(monkeypatch, tmp_path):
    run(monkeypatch, "spacing", "--size", "100,96,40", "--repeats", "1", "--out", str(tmp_path))

    rows = json.loads((tmp_path / "spacing.json").read_text(encoding="utf-8"))["rows"]
    assert all(row["centre_shift_voxels"] < 0.1 for row in rows)


def test_nothing_is_written_without_a_folder_and_earlier_files_are_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, "spacing", "--size", "8,8,4", "--repeats", "1")
    assert list(tmp_path.iterdir()) == []

    for _ in range(2):
        run(monkeypatch, "spacing", "--size", "8,8,4", "--repeats", "1", "--out", "figures")
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert files == [
        "figures/earlier/1/spacing.csv",
        "figures/earlier/1/spacing.json",
        "figures/spacing.csv",
        "figures/spacing.json",
    ]


def test_the_cascade_benchmark_finds_nearly_equal_masks(monkeypatch, tmp_path):
    sizes = ["--size", "72,72,48", "--spacing", "6,6,9", "--region", "32,32,32", "--coarse_size", "32,32,32"]
    run(monkeypatch, "cascade", *sizes, "--out", str(tmp_path))

    (row,) = json.loads((tmp_path / "cascade.json").read_text(encoding="utf-8"))["rows"]
    assert 0.98 < row["dice"] <= 1
    assert row["volume ratio"] > 4
    assert row["ratio"] == pytest.approx(row["baseline_s"] / row["ours_s"])
    assert row["share of it"] == pytest.approx(row["ratio"] / row["volume ratio"])
    assert row["ours_peak_mib"] >= 0


def test_shuffling_is_measured_beside_a_loop_that_does_the_same(monkeypatch, tmp_path):
    run(monkeypatch, "shuffling", "--size", "20,20,20", "--repeats", "1", "--out", str(tmp_path))
    (row,) = json.loads((tmp_path / "shuffling.json").read_text(encoding="utf-8"))["rows"]
    assert row["ratio"] == pytest.approx(row["baseline_s"] / row["ours_s"])


def test_a_trained_network_is_measured_on_a_scan_or_not_at_all(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "cascade", "--image", "ct.nii.gz")
    assert capsys.readouterr().err == "error: Give both ckpt_dir and image, or neither.\n"


def test_repeats_below_one_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "spacing", "--size", "8,8,4", "--repeats", "0")
    assert capsys.readouterr().err == "error: repeats is 0, but must be 1 or more.\n"


def run_apart(*arguments):
    command = [sys.executable, str(SCRIPT), "spacing", "--size", "24,20,12", "--repeats", "1", *arguments]
    return subprocess.run(command, cwd=SCRIPT.parents[1], capture_output=True, encoding="utf-8", check=False)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variables are those of x86 processors")
def test_a_benchmark_can_be_taken_as_on_an_older_processor():
    done = run_apart("--cpu", "avx2")
    assert done.returncode == 0, done.stderr
    assert {"instructions: AVX2", "precision: float32"} <= set(done.stdout.splitlines())


def test_another_processor_is_refused_in_one_line():
    done = run_apart("--cpu", "avx3")
    assert (done.returncode, done.stderr) == (1, "error: cpu is 'avx3', but must be native or avx2.\n")


def test_a_ratio_is_the_median_of_neighbouring_runs():
    ours, baseline = Measured((1.0, 2.0, 3.0), 0, None), Measured((2.0, 2.0, 9.0), 0, None)
    row = as_row("x", ours, baseline)
    assert (row["ours_s"], row["baseline_s"], row["ratio"]) == (2.0, 2.0, 2.0)
