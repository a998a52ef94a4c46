"""``python -m med3d_components check``, and the report at the end of an import."""

from __future__ import annotations

from pathlib import Path

import pytest

from med3d_components.__main__ import COMMANDS
from med3d_components.utils import run_commands
from tests.prepare.faulty_data import write_good


def run(*arguments: object) -> int:
    """Return the exit code of a command line."""
    try:
        run_commands(COMMANDS, None, [*map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_exit_code_tells_whether_all_cases_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_good(tmp_path / "Liver")
    assert run("check", folder) == 0
    (folder / "imagesTr" / "case_1.nii.gz").write_bytes(b"broken")
    assert run("check", folder, "--out", tmp_path / "out") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("Report: ")] == [
        f"Report: {folder / 'report' / 'report.html'}",
        f"Report: {tmp_path / 'out' / 'report.html'}",
    ]
    assert lines[-1] == f"Report: {tmp_path / 'out' / 'report.html'}"


def test_what_cannot_be_checked_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", tmp_path / "nothing") == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'nothing'} is no folder")


def test_an_import_ends_with_the_report_of_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_good(tmp_path / "Liver"), tmp_path / "own"
    pairs = ("--images", source / "imagesTr", "--labels", source / "labelsTr")
    assert run("prepare", "segmentation", *pairs, "--out", out) == 0
    assert f"own: 8 cases, 0 with errors, 0 with warnings.\nReport: {out / 'report' / 'report.html'}" in (
        capsys.readouterr().out
    )
    assert {path.name for path in (out / "report").iterdir()} == {"report.html", "cases.csv"}
    assert run("prepare", "segmentation", *pairs, "--out", out) == 0
    assert f"{out} is already there." in capsys.readouterr().out
