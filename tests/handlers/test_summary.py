from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from med3d_components.handlers import RunSummary

SETTINGS: dict[str, Any] = {"classes": ["background", "lung"], "spacing": [1.0, 1.5, 2], "roi_size": [64, 64, 32]}
SETTINGS |= {"network": {"depth": 10}}


class Loader(list[int]):
    """Batches of a dataset."""

    @property
    def dataset(self) -> list[int]:
        return list(self)


def engine(batches: int) -> Engine:
    made = Engine(lambda engine, batch: None)
    made.data_loader = Loader(range(batches))
    made.state.best_metric, made.state.best_metric_epoch = 0.75, 2
    made.state.first_step, made.state.keep_last = 0, False
    made.state.key_metric_name = "val_mean_dice"
    return made


def run(summary: RunSummary, trainer: Engine, caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """Run two epochs and return what was printed, by the word at the start."""
    caplog.set_level(logging.INFO)
    summary.attach(trainer)
    trainer.run(trainer.data_loader, max_epochs=2)
    return dict(line.split(maxsplit=1) for line in lines(caplog))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "med3d_components.handlers.summary"]


def test_a_training_tells_what_it_runs_and_where_its_results_lie(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "curves.png").touch()
    summary = RunSummary(
        nn.Linear(999, 1000), SETTINGS, "float32", "cpu", tmp_path / "eval", tmp_path / "models", tmp_path,
        tmp_path / "bundle", evaluator=engine(4),
    )  # fmt: skip
    told = run(summary, engine(6), caplog)
    assert told["cases"] == "6 to train, 4 to validate"
    assert told["classes"] == "background, lung"
    assert told["spacing"] == "1x1.5x2 mm"
    assert told["patch"] == "64x64x32 voxels"
    assert told["network"] == "Linear, depth 10, 1.0 million parameters"
    assert told["precision"] == "float32 (as asked for)"
    assert told["device"].startswith("cpu, ")
    assert told["results"] == f"{tmp_path / 'eval'}, the model in {tmp_path / 'models'}"
    assert told["steps"] == "6 an epoch, 2 epochs"
    assert "resumed" not in told
    assert told["best"] == "epoch 2, val_mean_dice 0.7500"
    assert told["model"] == str(tmp_path / "models" / "model.pt")
    assert told["pictures"] == str(tmp_path / "eval" / "curves.png")
    assert "tables" not in told
    assert f"--ckpt_dir {tmp_path / 'models'} --dataset_dir SCANS" in lines(caplog)[-1]


def test_a_training_without_a_validation_claims_no_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    evaluator = engine(1)
    evaluator.state.best_metric_epoch = -1
    told = run(RunSummary(nn.Linear(1, 1), SETTINGS, "auto", "cpu", tmp_path, evaluator=evaluator), engine(1), caplog)
    assert told["best"] == "no epoch has a score"


def test_a_resumed_training_tells_the_step_and_the_kept_last_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluator, trainer = engine(1), engine(3)
    evaluator.state.keep_last, trainer.state.first_step = True, 2
    told = run(RunSummary(nn.Linear(1, 1), SETTINGS, "auto", "cpu", tmp_path, evaluator=evaluator), trainer, caplog)
    assert told["resumed"] == "after step 2 of epoch 1"
    assert told["model"] == "model.pt, of the last epoch"


def test_an_inference_tells_its_cases_and_nothing_of_epochs(caplog: pytest.LogCaptureFixture) -> None:
    told = run(RunSummary(nn.Linear(1, 1), {"roi_size": 48, "network": {}}, "auto", "cpu", "eval"), engine(3), caplog)
    assert told["cases"] == "3"
    assert told["patch"] == "48x48x48 voxels"
    assert not {"classes", "spacing", "steps", "best", "model"} & set(told)


def test_many_domains_fit_a_line(caplog: pytest.LogCaptureFixture) -> None:
    names = [f"Task{index:02}" for index in range(8)]
    settings = {
        "classes": {name: ["background", "organ"] for name in names},
        "roi_size": dict.fromkeys(names, [8] * 3),
        "network": {},
    }
    told = run(RunSummary(nn.Linear(1, 1), settings, "auto", "cpu", "eval"), engine(1), caplog)
    assert told["classes"].startswith("Task00: background, organ; ")
    assert told["classes"].endswith("and more, 8 domains in all")
    assert told["patch"] == "8x8x8 voxels"


def test_a_bad_choice_of_precision_is_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from med3d_components.utils.precision import choose_precision

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    choose_precision.cache_clear()
    told = run(RunSummary(nn.Linear(1, 1), {"network": {}}, "bf16", "cpu", "eval"), engine(1), caplog)
    choose_precision.cache_clear()
    assert "bf16 is emulated there" in told["warning"]
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


def test_settings_read_from_a_file_are_told_as_those_of_a_training(caplog: pytest.LogCaptureFixture) -> None:
    told = run(
        RunSummary(nn.Linear(1, 1), json.loads(json.dumps(SETTINGS)), "auto", torch.device("cpu"), "eval"),
        engine(1),
        caplog,
    )
    assert told["spacing"] == "1x1.5x2 mm"
