from __future__ import annotations

import gc
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser

from med3d_components.data import SegmentationDatalist
from med3d_components.handlers import RunRecord
from med3d_components.records import read_record
from med3d_components.utils.precision import choose_precision
from med3d_components.utils.resolved import resolved_options
from tests.conftest import ROOT, MakeDomain

CONFIGS = ROOT / "bundles" / "lung_segmentation" / "configs"


class Training:
    """A training whose scores are known beforehand, of a bundle's own config and real files."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        self.path = folder / "models" / "run.json"

    def workflow(self, overlay: str = "", **changes: Any) -> Any:
        files = [CONFIGS / "train.json", *([CONFIGS / overlay] if overlay else [])]
        parser = ConfigParser(ConfigParser.load_config_files(files))
        parser.read_meta(CONFIGS / "metadata.json")
        places = {"bundle_root": str(CONFIGS.parent), "dataset_dir": str(self.data), "run_dir": str(self.folder)}
        parser.update({**places, **changes})
        return SimpleNamespace(parser=parser, config_root_path=CONFIGS, run_id="training")

    def run(
        self, scores: list[float | None], workflow: Any, resume: bool = False, after: int = 0, fails_at: int = 0
    ) -> dict[str, Any]:
        def step(engine: Engine, _: Any) -> None:
            if engine.state.iteration == fails_at:
                raise ValueError("The loss is nan.")

        trainer, evaluator = Engine(step), Engine(lambda engine, batch: None)
        trainer.precision, trainer.state.steps_beyond = choose_precision("float32"), 0
        evaluator.state.key_metric_name, evaluator.state.epoch = "val_mean_dice", 0

        def go_on() -> None:
            trainer.state.epoch, trainer.state.iteration = after, 2 * after

        def validate() -> None:
            score = scores[trainer.state.epoch - 1]
            if score is not None:
                state = evaluator.state
                state.epoch, state.metrics = trainer.state.epoch, {"val_mean_dice": score}
                if score > getattr(state, "best_metric", -1):
                    state.best_metric, state.best_metric_epoch = score, trainer.state.epoch

        trainer.add_event_handler(Events.STARTED, go_on)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
        datalist = SegmentationDatalist(self.data)
        options = resolved_options(workflow.parser) if workflow else {}
        record = RunRecord(workflow, self.folder / "models", datalist, ["Kidneys"], evaluator, options, resume)
        record.attach(trainer)
        trainer.logger.disabled = True
        trainer.run([1.0, 2.0], max_epochs=len(scores), epoch_length=2)
        return read_record(self.path) if self.path.is_file() else {}


@pytest.fixture
def training(make_domain: MakeDomain, tmp_path: Path) -> Training:
    return Training(tmp_path / "run", make_domain(tmp_path / "Kidneys"))


def test_all_that_repeats_a_run_is_kept(training: Training) -> None:
    record = training.run([0.25, None, 0.5, float("nan")], training.workflow(epochs=4, depth=10, patch_size=[32] * 3))
    assert record["status"] == "completed"
    assert record["bundle"]["name"] == "lung_segmentation"
    assert list(record["configs"]) == ["train.json"]
    assert record["changed"] == []
    assert record["given"] == ["dataset_dir", "run_dir", "depth", "epochs", "patch_size"]
    assert (record["options"]["learning_rate"], record["options"]["spacing"]) == (0.001, [1.0, 1.0, 1.0])
    assert record["options"]["dataset_dir"] == training.data.as_posix()
    assert record["scores"] == [
        {"epoch": 1, "val_mean_dice": 0.25},
        {"epoch": 3, "val_mean_dice": 0.5},
        {"epoch": 4, "val_mean_dice": None},
    ]
    assert record["best"] == {"metric": "val_mean_dice", "score": 0.5, "epoch": 3}
    (part,) = record["parts"]
    assert (part["first_epoch"], part["last_epoch"], part["steps"]) == (1, 4, 8)
    assert part["started"] <= part["ended"]
    assert part["environment"]["threads"] > 0


def test_an_overlay_is_named_where_options_do_not_say_what_it_does(training: Training) -> None:
    record = training.run([0.1], training.workflow("multi_gpu_train.json"))
    assert list(record["configs"]) == ["train.json", "multi_gpu_train.json"]
    record = training.run([0.1], training.workflow("smoke.json"))
    assert list(record["configs"]) == ["train.json"]
    assert record["options"]["widths"] == [[16, 8], [8, 8], [8, 8]]


def test_what_was_changed_beyond_options_and_configs_is_named(training: Training) -> None:
    record = training.run([0.1], training.workflow(loss={"_target_": "DiceLoss"}))
    assert record["changed"] == ["loss"]


def test_nothing_is_written_before_a_step_or_where_no_workflow_reads_the_config(training: Training) -> None:
    with pytest.raises(ValueError, match="The loss is nan"):
        training.run([0.1], training.workflow(), fails_at=1)
    assert not training.path.exists()
    assert training.run([0.1], None) == {}


def test_a_training_that_fails_leaves_a_record_that_says_so(training: Training) -> None:
    with pytest.raises(ValueError, match="The loss is nan"):
        training.run([0.1, 0.2], training.workflow(), fails_at=3)
    gc.collect()
    record = read_record(training.path)
    assert (record["status"], record["parts"][0]["status"]) == ("stopped", "stopped")
    assert record["scores"] == [{"epoch": 1, "val_mean_dice": 0.1}]
    assert record["parts"][0]["last_epoch"] == 1


def test_a_resumed_run_lists_its_parts_and_what_was_changed_between_them(training: Training) -> None:
    training.run([0.1, 0.3, 0.2], training.workflow(epochs=3))
    record = training.run([0.1, 0.3, 0.4, 0.5], training.workflow(epochs=4), resume=True, after=2)
    assert [part["first_epoch"] for part in record["parts"]] == [1, 3]
    assert [part["options"] for part in record["parts"][:-1]] == [{"epochs": 3}]
    assert [row["epoch"] for row in record["scores"]] == [1, 2, 3, 4]
    assert record["scores"][2]["val_mean_dice"] == 0.4
    assert record["best"]["epoch"] == 4


def test_the_record_of_a_part_that_was_killed_says_that_it_was_stopped(training: Training) -> None:
    killed = training.run([0.1, 0.3], training.workflow())
    killed["status"] = killed["parts"][0]["status"] = "running"
    training.path.write_text(json.dumps(killed))
    record = training.run([0.1, 0.3, 0.4], training.workflow(), resume=True, after=2)
    assert [part["status"] for part in record["parts"]] == ["stopped", "completed"]
    assert record["best"]["score"] == 0.4
