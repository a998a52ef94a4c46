"""Real runs: which cases are scored, in whichever folder they lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.bundles.workflow import configs, copy_bundle, read_table
from tests.conftest import MakeDomain, RunBundle
from tests.data.test_model_split import grow


def test_an_evaluation_scores_the_cases_of_the_model_and_others_when_it_is_told_to(
    tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    bundle, data = copy_bundle("lung_segmentation", tmp_path), make_domain(tmp_path / "Lungs", cases=6)
    smoke = ("--config_file", configs(bundle, "train", "smoke"))
    run_bundle("run", "training", *smoke, "--dataset_dir", data, "--epochs", 1)
    split = json.loads((bundle / "models" / "split.json").read_text(encoding="utf-8"))
    copied = shutil.copytree(data, tmp_path / "Lungs_v2", ignore=shutil.ignore_patterns(".*"))
    grow(copied, "more_0", "more_1")

    def evaluate(folder: Path, *options: object, fails: bool = False) -> str:
        files = ("--config_file", configs(bundle, "train", "smoke", "evaluate"))
        return run_bundle("run", "evaluating", *files, "--dataset_dir", folder, *options, fails=fails)

    def scored() -> dict[str, str]:
        return {row["case"]: row["set"] for row in read_table(bundle / "eval" / "evaluation" / "cases.csv")}

    output = evaluate(copied)
    assert "New, not scored: 2 cases (more_0, more_1)" in output
    assert scored() == dict.fromkeys(split["validation"], "validation")
    evaluate(copied, "--cases", "all")
    assert scored() == {
        **dict.fromkeys(split["training"], "training"),
        **dict.fromkeys(split["validation"], "validation"),
        "more_0": "new",
        "more_1": "new",
    }
    other = make_domain(tmp_path / "Other", cases=2, seed=1)
    line = evaluate(other, fails=True).rstrip().splitlines()[-1]
    assert "of its 2 cases 0 trained, and 2 are new" in line
    evaluate(other, "--cases", "unseen")
    scores = json.loads((bundle / "eval" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert "image_blind_baseline" not in scores  # there is no training case to fit it to
    line = evaluate(other, "--val_fraction", 1, fails=True).rstrip().splitlines()[-1]
    assert line == "error: --val_fraction: an evaluation draws no cases; choose by --cases validation, unseen or all."


@pytest.mark.slow
def test_a_resumed_run_keeps_its_cases_in_a_grown_folder_and_a_fine_tuned_one_those_of_its_ancestor(
    tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    bundle, data = copy_bundle("lung_segmentation", tmp_path), make_domain(tmp_path / "Lungs", cases=6)
    smoke = ("run", "training", "--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)
    run_bundle(*smoke, "--epochs", 1)
    path = bundle / "models" / "split.json"
    split = json.loads(path.read_text(encoding="utf-8"))
    grow(data, *(f"more_{number}" for number in range(12)))
    output = run_bundle(*smoke, "--epochs", 2, "--resume", "true")
    assert "New since the run began, and left out: 12 cases" in output
    assert "5 to train, 1 to validate" in output
    assert json.loads(path.read_text(encoding="utf-8")) == split
    tuned = ("--run_dir", tmp_path / "tuned", "--pretrained_weights", bundle / "checkpoints" / "encoder.pt")
    output = run_bundle(*smoke, "--epochs", 1, "--split_seed", 1, "--val_fraction", 0.5, *tuned)
    assert "trained on by a model that this training starts from" in output
    inherited = json.loads((tmp_path / "tuned" / "models" / "split.json").read_text(encoding="utf-8"))["ancestors"]
    assert inherited == {"Lungs": {digest: digest for digest in split["training"].values()}}
