"""A training that is repeated from its run.json."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from med3d_components.commands import replay, train
from med3d_components.commands.repeating import _options
from med3d_components.data.split_file import without_names
from med3d_components.records import describe_data, read_record
from med3d_components.utils import write_json
from med3d_components.utils.files import file_digest
from med3d_components.utils.resolved import resolved_options
from scripts.commands.anonymous import anonymous_record
from tests.bundles.workflow import small_training, source_of, write_data
from tests.conftest import BUNDLES, ROOT
from tests.records.samples import sample_record

BUNDLE = ROOT / "bundles" / "lung_segmentation"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def recorded(data: Path, tmp_path: Path) -> dict[str, Any]:
    """Return the record of a training that was not run, on data that are there."""
    parser = small_training(BUNDLE, data, run_dir=str(tmp_path / "run"))
    described = describe_data(parser.get_parsed_content("datalist"), data / "Scans", ["Scans"])
    configs = {"train.json": file_digest(BUNDLE / "configs" / "train.json")}
    return sample_record(options=resolved_options(parser), data=described, configs=configs)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Return what a replay has started instead of a training, which leaves the ``record`` that is set there."""
    started: list[SimpleNamespace] = []

    def start(command: list[str], env: Mapping[str, str], check: bool) -> SimpleNamespace:
        arguments = json.loads(Path(command[-1]).read_text())
        started.append(SimpleNamespace(command=command, env=env, arguments=arguments))
        write_json(Path(arguments["run_dir"], "models", "run.json"), RESULT[0])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", start)
    return started


RESULT: list[dict[str, Any]] = [{}]


def write(record: dict[str, Any], folder: Path) -> str:
    """Write a record where a training leaves it; that of its replay is the same, unless a test changes it."""
    RESULT[0] = copy.deepcopy(record)
    path = folder / "run" / "models" / "run.json"
    write_json(path, record)
    return str(path)


def test_a_training_is_repeated_to_the_last_bit_into_a_folder_of_its_own(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = tmp_path / "run"
    train("lung_segmentation", str(data / "Scans"), run_dir=str(run), configs="train,smoke", seed=3)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    folder = replay(str(run / "models" / "run.json"))
    assert folder == run / "replay_1"
    assert before == {path: path.read_bytes() for path in before}
    one, two = (read_record(place / "models" / "run.json") for place in (run, folder))
    assert one["scores"] == two["scores"]
    assert one["files"]["model.pt"] == two["files"]["model.pt"]
    assert "All 2 epochs are equal to the last bit" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif("MED3D_REAL_DATA" not in os.environ, reason="MED3D_REAL_DATA names no folder of real volumes")
def test_three_epochs_on_real_hippocampi_are_repeated_to_the_last_bit(tmp_path: Path) -> None:
    hippocampi = Path(os.environ["MED3D_REAL_DATA"], "Task04_Hippocampus")
    shares = {"train_share": 0.1, "val_fraction": 0.05}
    train("lung_segmentation", str(hippocampi), str(tmp_path), "train,smoke", epochs=3, learning_rate=0.001, **shares)
    folder = replay(str(tmp_path / "models" / "run.json"))
    one, two = (read_record(place / "models" / "run.json") for place in (tmp_path, folder))
    assert [row["epoch"] for row in one["scores"]] == [1, 2, 3]
    assert one["scores"] == two["scores"]


def test_scores_that_differ_are_shown_with_what_else_does(
    recorded: dict[str, Any], runs: list[SimpleNamespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(recorded, tmp_path)
    RESULT[0]["scores"][1]["val_mean_dice"] = 0.7500000000000001
    RESULT[0]["parts"][0]["environment"]["threads"] += 1
    with pytest.raises(ValueError, match=r"^1 of 2 epochs have other scores; see above for what else differs\.$"):
        replay(path)
    told = capsys.readouterr().out
    assert re.search(r"2 +0\.75 +0\.7500000000000001  differs: val_mean_dice", told)
    assert re.search(r"differs: threads: \d+ then, \d+ now", told)


def test_each_replay_has_a_folder_of_its_own_and_gets_the_threads_and_variables_of_the_run(
    recorded: dict[str, Any], runs: list[SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = recorded["parts"][0]["environment"]
    environment.update(threads=3, variables={"ONEDNN_MAX_CPU_ISA": "AVX2"})
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    path = write(recorded, tmp_path)
    assert [replay(path).name, replay(path).name] == ["replay_1", "replay_2"]
    env = runs[0].env
    assert (env["OMP_NUM_THREADS"], env["ONEDNN_MAX_CPU_ISA"]) == ("3", "AVX2")
    assert "ATEN_CPU_CAPABILITY" not in env
    arguments = runs[0].arguments
    assert arguments["run_dir"] == (tmp_path / "run" / "replay_1").as_posix()
    assert not {"resume", "ckpt_dir", "output_dir", "cache_dir"} & set(arguments)
    assert (arguments["depth"], arguments["intensity_range"]) == (10, "null")


def change(record: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {**record, "options": {**record["options"], **options}}


def change_part(record: dict[str, Any], **environment: Any) -> dict[str, Any]:
    changed = copy.deepcopy(record)
    changed["parts"][0]["environment"].update(environment)
    return changed


MISTAKES: dict[str, tuple[Any, str]] = {
    "expression": (lambda r: change(r, depth="$__import__('os').getpid()"), "which MONAI would evaluate"),
    "reference": (lambda r: change(r, depth="@seed"), "which MONAI would evaluate"),
    "macro": (lambda r: change(r, depth="%/etc/passwd"), "which MONAI would evaluate"),
    "object": (lambda r: change(r, spacing={"_target_": "os.getpid"}), "which MONAI would evaluate"),
    "nested": (lambda r: change(r, spacing=[1, 1, "$print(1)"]), "which MONAI would evaluate"),
    "device": (lambda r: change(r, device="cpu or so"), "device is 'cpu or so', but must be a device"),
    "unknown": (lambda r: change(r, loss="x"), "has the option 'loss', which lung_segmentation has not"),
    "inner": (lambda r: change(r, **{"train#trainer": "x"}), "has the option 'train#trainer', which"),
    "type": (lambda r: change(r, epochs="three"), "epochs is 'three', but must be an integer, 1 or more"),
    "bundle": (lambda r: {**r, "bundle": {"name": "../evil", "version": ""}}, "which is no name"),
    "no bundle": (lambda r: {**r, "bundle": {"name": "kidneys", "version": ""}}, "There is no bundle kidneys"),
    "config": (lambda r: {**r, "configs": {"train.json": "", "../x.json": ""}}, "names the config '../x.json', which"),
    "first config": (lambda r: {**r, "configs": {"smoke.json": ""}}, "begins with the config 'smoke.json'"),
    "run id": (lambda r: {**r, "run_id": "evaluating"}, "is of 'evaluating', but only a training is repeated"),
    "changed": (lambda r: {**r, "changed": ["loss"]}, "whose config was changed beyond its options (loss)"),
    "variable": (lambda r: change_part(r, variables={"LD_PRELOAD": "x.so"}), "'LD_PRELOAD' to 'x.so', which is not"),
    "value": (lambda r: change_part(r, variables={"MKL_CBWR": "/x"}), "'MKL_CBWR' to '/x', which is not allowed"),
    "threads": (lambda r: change_part(r, threads="2"), "is damaged (it does not say how many threads)"),
    "processes": (lambda r: change_part(r, processes=2), "is of a training by several processes"),
    "stripped": (anonymous_record, "does not say where its dataset_dir is; name it by --dataset_dir"),
    "listing": (lambda r: {**r, "data": {**r["data"], "listing": "0"}}, "names, sizes or headers differ"),
    "cases": (
        lambda r: {**r, "data": {**r["data"], "training": 7}},
        "has 5 cases for training, but the training had 7",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_record_is_data_and_what_it_may_not_say_is_refused_in_one_line(
    mistake: str, recorded: dict[str, Any], runs: list[SimpleNamespace], tmp_path: Path
) -> None:
    alter, message = MISTAKES[mistake]
    path = write(alter(recorded), tmp_path)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        replay(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not runs
    assert os.listdir(tmp_path / "run") == ["models"]


def test_other_data_are_refused_and_a_copy_is_taken(
    recorded: dict[str, Any], runs: list[SimpleNamespace], data: Path, tmp_path: Path
) -> None:
    path, folder = write(anonymous_record(recorded), tmp_path), tmp_path / "copy" / "Scans"
    shutil.copytree(data / "Scans", folder)
    replay(path, dataset_dir=str(folder))
    assert runs[0].arguments["dataset_dir"] == folder.as_posix()
    content = json.loads((folder / "dataset.json").read_text())
    write_json(folder / "dataset.json", {**content, "description": "other"})
    with pytest.raises(ValueError, match=r"The dataset\.json of Scans in .* is not that of the training"):
        replay(path, dataset_dir=str(folder))


def test_a_run_that_was_resumed_in_a_grown_folder_is_repeated_with_its_own_cases(
    data: Path, tmp_path: Path, runs: list[SimpleNamespace]
) -> None:
    folder = Path(shutil.copytree(data / "Scans", tmp_path / "Scans"))
    content = json.loads((folder / "dataset.json").read_text())
    write_json(folder / "dataset.json", {**content, "training": content["training"][:4]})
    parser = small_training(BUNDLE, tmp_path, run_dir=str(tmp_path / "run"))
    models = tmp_path / "run" / "models"
    write_json(models / "split.json", parser.get_parsed_content("datalist").split)
    write_json(folder / "dataset.json", content)
    # The resumed part of the run, which writes the record.
    options = resolved_options(parser)
    parser = small_training(BUNDLE, tmp_path, run_dir=str(tmp_path / "run"))
    parser.update({"model_split#resume": True})
    described = describe_data(parser.get_parsed_content("datalist"), folder, ["Scans"])
    assert described["training"] + described["validation"] == 4 < len(content["training"])
    configs = {"train.json": file_digest(BUNDLE / "configs" / "train.json")}
    path = write(sample_record(options=options, data=described, configs=configs), tmp_path)
    replay(path)
    assert runs[0].arguments["model_split#ckpt_dir"] == models.as_posix()
    # As in a zip, where cases are called by their digests.
    write_json(models / "split.json", without_names(json.loads((models / "split.json").read_text())))
    replay(path)
    (models / "split.json").unlink()
    with pytest.raises(ValueError, match=r"but the training had \d \(which cases .*split\.json does not exist\)\.$"):
        replay(path)


def test_other_weights_are_refused(recorded: dict[str, Any], runs: list[SimpleNamespace], tmp_path: Path) -> None:
    (tmp_path / "encoder.pt").write_bytes(b"weights")
    digest = file_digest(tmp_path / "encoder.pt")
    entry = {"option": "pretrained_weights", "source": "<pretrained_weights>", "sha256": digest, "record": None}
    record = change(recorded, pretrained_weights="<pretrained_weights>")
    path = write({**record, "weights": [entry]}, tmp_path)
    with pytest.raises(ValueError, match="does not say where its pretrained_weights is; name it by --pretrained_we"):
        replay(path)
    replay(path, pretrained_weights=str(tmp_path / "encoder.pt"))
    (tmp_path / "encoder.pt").write_bytes(b"others")
    with pytest.raises(ValueError, match=rf"is not what the training started from, whose sha256 is {digest}"):
        replay(path, pretrained_weights=str(tmp_path / "encoder.pt"))


def test_another_package_or_config_is_warned_of_before_the_run(
    recorded: dict[str, Any], runs: list[SimpleNamespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = change_part({**recorded, "configs": {"train.json": "0" * 64}}, package="1" * 64)
    replay(write(record, tmp_path))
    told = capsys.readouterr().out
    assert "warning: package: 111111111111 then, " in told
    assert "warning: train.json of lung_segmentation is not as it was" in told


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_the_resolved_options_of_every_bundle_are_values_that_a_replay_takes(bundle: Path, data: Path) -> None:
    options = resolved_options(small_training(bundle, data))
    record = sample_record(options=options, bundle={"name": bundle.name, "version": ""})
    found = _options(record, Path("run.json"), bundle / "configs" / "train.json", {})
    assert found["dataset_dir"] == source_of(bundle, data, "train").as_posix()
    assert found["learning_rate"] == options["learning_rate"]
