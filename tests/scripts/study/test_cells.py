from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from med3d_components.utils.writer_lock import WriterLock
from scripts.study.cells import _train, check_same, last_line, run_cells
from tests.scripts.study.conftest import Stub, make_cell


def test_a_finished_cell_is_not_run_again_and_a_new_one_is(tmp_path: Path) -> None:
    stub, cells = Stub(), [make_cell(seed=seed) for seed in (0, 1)]
    assert run_cells(cells, tmp_path, stub) == {}
    assert run_cells(cells, tmp_path, stub) == {}
    assert [run["seed"] for run in stub.runs] == ["0", "1"]
    run_cells([*cells, make_cell(seed=2)], tmp_path, stub)
    assert [run["seed"] for run in stub.runs] == ["0", "1", "2"]
    done = json.loads((tmp_path / "cells" / cells[0].name / "done.json").read_text(encoding="utf-8"))
    assert done["settings"] == cells[0].settings()
    assert {"torch", "monai", "processor", "device"} <= set(done["machine"])
    assert 0 <= done["seconds"] < 60


def test_other_settings_are_an_error_before_anything_runs(tmp_path: Path) -> None:
    stub, weights = Stub(), tmp_path / "encoder.pt"
    weights.write_bytes(b"one")
    cell = make_cell("mine", pretrained_weights=str(weights))
    run_cells([cell], tmp_path, stub)
    with pytest.raises(ValueError, match=r"other settings: epochs was 8 and is now 9; .* another folder with --out"):
        run_cells([make_cell(seed=1), make_cell("mine", pretrained_weights=str(weights), epochs=9)], tmp_path, stub)
    weights.write_bytes(b"two")
    with pytest.raises(ValueError, match="other settings: sha256 of the weights was"):
        run_cells([cell], tmp_path, stub)
    with pytest.raises(ValueError, match="options was None and is now"):
        run_cells([make_cell("mine", pretrained_weights=str(weights), options=1)], tmp_path, stub)
    assert len(stub.runs) == 1


def test_a_failed_cell_is_told_with_its_log_and_the_others_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class FailsOnce(Stub):
        def __call__(self, *arguments: object) -> int:
            self.code = 3 if not self.runs else 0
            return super().__call__(*arguments)  # type: ignore[arg-type]

    stub, cells = FailsOnce(), [make_cell(seed=seed) for seed in (0, 1)]
    failures = run_cells(cells, tmp_path, stub)
    log = tmp_path / "cells" / cells[0].name / "log.txt"
    assert failures == {cells[0].name: f"failed with exit code 3: error: no luck (see {log})"}
    assert "[2/2] R10_scratch_share1_seed1: done" in capsys.readouterr().out
    assert run_cells(cells, tmp_path, stub) == {}  # the failed one is tried again
    assert [run["seed"] for run in stub.runs] == ["0", "1", "0"]


def test_an_interrupted_cell_is_resumed_and_its_time_is_added(tmp_path: Path) -> None:
    stub, cell = Stub(), make_cell()
    stub.code = 130
    run_cells([cell], tmp_path, stub)
    folder = tmp_path / "cells" / cell.name
    record = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    checkpoint = folder / "checkpoints" / "last.pt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    os.utime(checkpoint, (record["started"] + 100, record["started"] + 100))
    assert stub.runs[0]["resume"] == "False"

    run_cells([cell], tmp_path, stub)
    assert stub.runs[1]["resume"] == "True"
    assert json.loads((folder / "cell.json").read_text(encoding="utf-8"))["seconds"] == pytest.approx(100)


def test_a_cell_waits_for_the_one_whose_encoder_it_starts_from(tmp_path: Path) -> None:
    before, stub = make_cell("first"), Stub()
    cell = make_cell("second")
    object.__setattr__(cell, "after", before.name)
    stub.code = 1
    assert run_cells([before, cell], tmp_path, stub)[cell.name] == f"not started, since {before.name} is not finished"
    stub.code = 0
    assert run_cells([before, cell], tmp_path, stub) == {}
    encoder = tmp_path / "cells" / before.name / "checkpoints" / "encoder.pt"
    assert stub.runs[-1]["pretrained_weights"] == str(encoder)


@pytest.mark.parametrize("file", [".study.json", ".writer.json"])
def test_a_cell_that_another_study_or_a_training_that_outlived_its_study_is_at_is_left_to_it(
    tmp_path: Path, file: str
) -> None:
    stub, cells = Stub(), [make_cell(seed=seed) for seed in (0, 1)]
    with WriterLock(tmp_path / "cells" / cells[0].name, file=file):
        assert run_cells(cells, tmp_path, stub) == {cells[0].name: "left to another process, which is at it"}
    assert [run["seed"] for run in stub.runs] == ["1"]
    assert run_cells(cells, tmp_path, stub) == {}
    assert not list(tmp_path.glob("cells/*/.*"))


def test_a_cell_that_another_process_finished_in_the_meantime_is_not_run(tmp_path: Path) -> None:
    class Other(Stub):
        def __call__(self, *arguments: object) -> int:
            if len(self.runs) == 0:  # while this one runs the first cell, another process ends the second
                run_cells(cells[1:], tmp_path, second)
            return super().__call__(*arguments)  # type: ignore[arg-type]

    stub, second, cells = Other(), Stub(), [make_cell(seed=seed) for seed in (0, 1)]
    assert run_cells(cells, tmp_path, stub) == {}
    assert [run["seed"] for run in (*stub.runs, *second.runs)] == ["0", "1"]


def test_a_process_is_run_with_its_output_in_the_log_and_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "metrics.csv").write_text("epoch\n1\n")
    code = "import sys, time; time.sleep(1.2); print('said'); sys.exit(5)"
    with (tmp_path / "log.txt").open("ab") as log:
        assert _train([sys.executable, "-c", code, "--epochs", "2"], tmp_path, log) == 5
    assert last_line(tmp_path / "log.txt") == "said"
    assert last_line(tmp_path / "none.txt") == "no output"


def test_a_stopped_study_stops_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Process(subprocess.Popen):  # type: ignore[type-arg]
        def wait(self, timeout: float | None = None) -> int:
            if not started:
                started.append(self)
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", Process)
    with (tmp_path / "log.txt").open("ab") as log, pytest.raises(KeyboardInterrupt):
        _train([sys.executable, "-c", "import time; time.sleep(60)", "--epochs", "2"], tmp_path, log)
    assert started[0].returncode < 0


def test_settings_of_a_whole_study_are_compared_too(tmp_path: Path) -> None:
    check_same(tmp_path / "study.json", {"epochs": 1})
    (tmp_path / "study.json").write_text(json.dumps({"epochs": 1, "size": [1, 2]}))
    check_same(tmp_path / "study.json", {"epochs": 1, "size": (1, 2)})
    with pytest.raises(ValueError, match=r"size was \[1, 2\] and is now None"):
        check_same(tmp_path / "study.json", {"epochs": 1})
