from __future__ import annotations

import json
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from med3d_components.networks import DilatedResNet
from scripts.study import cells
from tests.bundles.workflow import names, read_table
from tests.conftest import ROOT, MakeDomain
from tests.scripts.study.conftest import Stub

SCRIPT = ROOT / "scripts" / "transfer_study.py"
SMALL = {"widths": [[8, 8], [8, 8], [8, 8]], "patch_size": [16, 16, 16], "num_workers": 0, "precision": "float32"}

RunStudy = Callable[..., str]


@pytest.fixture
def run_study(
    tmp_path: Path, make_domain: MakeDomain, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> RunStudy:
    """Run a command of the script on the lungs in ``tmp_path``; return what it printed, and expect its exit code."""
    lungs = make_domain(tmp_path / "lungs", cases=5)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    handler = signal.getsignal(signal.SIGTERM)

    def run(command: str, *arguments: object, code: int = 0) -> str:
        data = ("--bundle", "lung_segmentation", "--dataset_dir", lungs) if command != "report" else ()
        options = (command, "--out", tmp_path / "study", *data, *arguments)
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, options)])
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
            found: object = 0
        except SystemExit as ended:
            found = ended.code
        finally:
            signal.signal(signal.SIGTERM, handler)
        output = capfd.readouterr()
        assert found == code, output
        return output.out + output.err

    return run


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Return what stands in for the training processes."""
    stub = Stub()
    monkeypatch.setattr(cells, "_train", stub)
    return stub


@pytest.mark.slow
def test_a_study_of_real_trainings_goes_on_where_it_was_stopped(run_study: RunStudy, tmp_path: Path) -> None:
    torch.save({"state_dict": DilatedResNet(10).state_dict()}, tmp_path / "r10.pt")
    arguments = ["--inits", f"med3d={tmp_path}/r{{depth}}.pt", "--seeds", 0, "--shares", "0.5,1", "--epochs", 1]
    arguments += ["--options", json.dumps(SMALL)]
    run_study("run", *arguments)
    out = tmp_path / "study"
    assert names(out) == {"cells", "study.json", "study.csv", "study.md", "curves.png", "shares.png", "report.html"}
    rows = {row["share"]: row for row in read_table(out / "study.csv")}
    assert [(rows[share]["training_cases"], rows[share]["iterations"]) for share in ("1", "0.5")] == [
        ("4", "2"),
        ("2", "2"),
    ]
    folders = {share: out / "cells" / f"R10_med3d_share{share}_seed0" for share in ("1", "0.5")}
    splits = {
        share: json.loads((folder / "models" / "split.json").read_text(encoding="utf-8"))
        for share, folder in folders.items()
    }
    assert set(splits["0.5"]["training"]) < set(splits["1"]["training"])
    assert splits["0.5"]["validation"] == splits["1"]["validation"]
    log = (folders["1"] / "log.txt").read_text(encoding="utf-8")
    assert "Loaded" in log
    assert "r10.pt" in log

    (folders["1"] / "done.json").unlink()  # as if the study had been killed after the last epoch
    assert "2 trainings, 1 of them finished before" in run_study("run", *arguments)
    assert (folders["1"] / "done.json").is_file()
    assert "Nothing is left to do" in (folders["1"] / "log.txt").read_text(encoding="utf-8")
    assert {row["share"]: row["end"] for row in read_table(out / "study.csv")} == {
        share: row["end"] for share, row in rows.items()
    }


def test_seeds_are_added_and_other_settings_refused(run_study: RunStudy, stub: Stub, tmp_path: Path) -> None:
    run_study("run", "--seeds", "0", "--epochs", 2, "--val_interval", 2)
    assert [(run["seed"], run["learning_rate"]) for run in stub.runs] == [("0", "0.01"), ("0", "0.001")]
    assert {run["depth"] for run in stub.runs} == {"10"}
    output = run_study("run", "--seeds", "0,1", "--epochs", 2, "--val_interval", 2)
    assert [run["seed"] for run in stub.runs] == ["0", "0", "1", "1"]
    assert f"{tmp_path / 'study' / 'report.html'} is written" in output
    line = run_study("run", "--seeds", "0", "--epochs", 4, "--val_interval", 2, code=1)
    assert "epochs was 2 and is now 4; give them as they were, or choose another folder with --out." in line
    before = (tmp_path / "study" / "study.csv").read_text(encoding="utf-8")
    (tmp_path / "study" / "study.csv").unlink()
    run_study("report")
    assert (tmp_path / "study" / "study.csv").read_text(encoding="utf-8") == before


def test_failed_trainings_end_the_study_with_an_error_and_a_report(
    run_study: RunStudy, stub: Stub, tmp_path: Path
) -> None:
    stub.code = 7
    output = run_study("run", "--seeds", "0", code=1)
    assert "error: 2 of 2 trainings are not finished; run again to go on." in output
    assert "R10_scratch_share1_seed0: failed with exit code 7: error: no luck" in output
    assert not (tmp_path / "study" / "report.html").exists()
    assert "has no finished training yet" in run_study("report", code=1)


def test_the_ablation_starts_each_training_from_its_own_pre_training(
    run_study: RunStudy, stub: Stub, make_domain: MakeDomain, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        make_domain(tmp_path / "domains" / name, cases=3)
    arguments = ["--domains_dir", tmp_path / "domains", "--counts", "1,2", "--seeds", "5", "--pretrain_epochs", 3]
    run_study("ablation", *arguments, "--pretrain_options", '{"batch_size": 1}')
    pretrainings = [run for run in stub.runs if "domains" in run]
    assert [run["domains"].count("'") // 2 for run in pretrainings] == [1, 2]
    assert [(run["epochs"], run["batch_size"]) for run in pretrainings] == [("6", "1"), ("3", "1")]
    starts = [run["pretrained_weights"] for run in stub.runs if "domains" not in run]
    encoders = [f"{run['run_dir']}/checkpoints/encoder.pt" for run in pretrainings]
    assert starts == ["none", "none", *encoders]
    rows = {row["init"]: row["domains"] for row in read_table(tmp_path / "study" / "study.csv")}
    assert rows["domains_2"] == "a b"
    assert rows["domains_1"] in ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bundle", "lungs"), "There is no bundle 'lungs'; choose one of"),
        (("--options", "fast"), "options is 'fast', but must be a mapping such as"),
        (("--options", '{"patch_sizes": 1}'), "did you mean --patch_size?"),
        (("--seed", "1"), "--seed is no id of transfer_study.py run; did you mean --seeds?"),
        (("--shares", "0,1"), "train_share is 0, but must be a number above 0 and at most 1"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_runs(
    run_study: RunStudy, stub: Stub, arguments: tuple[str, str], message: str
) -> None:
    line = run_study("run", *arguments, code=1).rstrip().splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert stub.runs == []
