"""Real trainings that are sent real signals, in processes of their own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bundles.workflow import configs, copy_bundle
from tests.conftest import ROOT, MakeDomain


@pytest.fixture
def command(tmp_path: Path, make_domain: MakeDomain) -> list[str]:
    bundle = copy_bundle("lung_segmentation", tmp_path)
    files = ["--config_file", configs(bundle, "train", "smoke")]
    options = ["--dataset_dir", str(make_domain(tmp_path / "Scans", cases=8)), "--batch_size", "1", "--epochs", "3"]
    return [sys.executable, "-m", "monai.bundle", "run", "training", *files, *options, "--val_fraction", "0.3"]


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    with log.open("wb") as file:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)


def wait_for(text: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    while text not in log.read_text(encoding="utf-8"):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.02)


def model(folder: Path) -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = torch.load(folder / "models" / "model.pt", weights_only=True)
    return content


@pytest.mark.slow
def test_the_command_that_an_interrupted_training_prints_goes_on_and_ends_with_the_same_model(
    command: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    assert start([*command, "--run_dir", str(tmp_path / "whole")], log).wait() == 0
    whole = model(tmp_path / "whole")
    for number, workers in ((signal.SIGTERM, "0"), (signal.SIGINT, "2"), (signal.SIGUSR1, "0")):
        folder = tmp_path / f"cut{number}"
        process = start([*command, "--run_dir", str(folder), "--num_workers", workers], log)
        wait_for("Epoch 1/3", log, process)
        time.sleep(0.3)
        process.send_signal(number)
        assert process.wait() == 128 + number
        *_, line = log.read_text(encoding="utf-8").strip().splitlines()
        said, _, again = line.partition("; go on with: ")
        assert said.startswith(f"interrupted ({signal.Signals(number).name}), saved in epoch 2, after step ")
        assert start(shlex.split(again), log).wait() == 0
        assert "Resumed after step" in log.read_text(encoding="utf-8")
        assert all(torch.equal(x, whole[name]) for name, x in model(folder).items())


@pytest.mark.slow
def test_the_command_line_of_the_package_is_interrupted_alike(command: list[str], tmp_path: Path) -> None:
    log, folder = tmp_path / "log.txt", tmp_path / "run"
    at = command.index("--dataset_dir")
    bundle = str(tmp_path / "lung_segmentation")
    options = [*command[at:], "--run_dir", str(folder), "--configs", "train,smoke"]
    process = start([sys.executable, "-m", "med3d_components", "train", bundle, *options], log)
    wait_for("Epoch 1/3", log, process)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    *_, line = log.read_text(encoding="utf-8").strip().splitlines()
    assert line.startswith("interrupted (SIGINT), saved in epoch 2, after step ")
    assert start(shlex.split(line.partition("; go on with: ")[2]), log).wait() == 0


def test_a_learning_rate_that_explodes_ends_in_one_line_and_leaves_no_network_of_nan(
    command: list[str], tmp_path: Path
) -> None:
    log, folder = tmp_path / "log.txt", tmp_path / "run"
    options = ["--learning_rate", "1e30", "--precision", "float32", "--run_dir", str(folder)]
    assert start([*command, *options], log).wait() == 1
    *_, line = log.read_text(encoding="utf-8").strip().splitlines()
    assert line.startswith("error: ")
    assert "smaller --learning_rate" in line
    for path in folder.glob("*/*.pt"):
        content: dict[str, Any] = torch.load(path, weights_only=True)
        assert all(torch.isfinite(x).all() for x in content.get("network", content).values())
