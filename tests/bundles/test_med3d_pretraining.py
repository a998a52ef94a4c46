"""Real runs of the bundle, each in a process of its own."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ckpt_export, load

from med3d_components.networks import build_network
from med3d_components.utils import write_json
from tests.bundles.workflow import read_config
from tests.conftest import ROOT, MakeDomain, RunBundle
from tests.handlers.tiny_training import same

SOURCE = ROOT / "bundles" / "med3d_pretraining"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a copy of the bundle, so that runs may write into it."""
    ignored = shutil.ignore_patterns("models", "checkpoints", "eval")
    return Path(shutil.copytree(SOURCE, tmp_path / SOURCE.name, ignore=ignored))


@pytest.fixture
def data(tmp_path: Path, make_domain: MakeDomain) -> Path:
    """Return two domains of different spacing and number of classes."""
    make_domain(tmp_path / "data" / "ct", cases=8, spacing=(1, 1, 2))
    make_domain(tmp_path / "data" / "mr", cases=6, classes=3, seed=1)
    return tmp_path / "data"


def configs(bundle: Path, *names: str) -> str:
    return str([str(bundle / "configs" / f"{name}.json") for name in names])


def read(path: Path) -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return content


def without_times(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: cell for key, cell in row.items() if key != "time"} for row in csv.DictReader(file)]


def test_train_evaluate_and_infer_from_the_root_inside_and_elsewhere(
    bundle: Path, data: Path, tmp_path: Path, run_bundle: RunBundle
) -> None:
    smoke = ("--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)
    # From the repository's root: results go into the bundle.
    run_bundle("run", "training", *smoke, "--num_workers", 2, cwd=ROOT)
    assert {path.name for path in (bundle / "models").iterdir()} == {
        "model.pt",
        "run.json",
        "settings.json",
        "split.json",
    }
    assert {path.name for path in (bundle / "checkpoints").iterdir()} == {"last.pt", "encoder.pt"}
    names = {"metrics.csv", "cases.csv", "curves.png", "overlays.png", "tensorboard"}
    assert {path.name for path in (bundle / "eval").iterdir()} == names
    with (bundle / "eval" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[3:8] == ["learning_rate", "train_loss", "val_mean_dice", "ct", "mr"]
    assert [row["epoch"] for row in table] == ["1", "2"]
    settings = json.loads((bundle / "models" / "settings.json").read_text(encoding="utf-8"))
    assert settings["spacing"] == {"ct": [1.0, 1.0, 2.0], "mr": [1.0, 1.0, 1.0]}

    # From inside the bundle: the weights decide depth and domains, not the flags.
    files = "['configs/train.json','configs/evaluate.json']"
    run_bundle("run", "evaluating", "--config_file", files, "--dataset_dir", data, cwd=bundle)
    scores = json.loads((bundle / "eval" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    best = read(bundle / "checkpoints" / "last.pt")["best"]
    assert scores["val_mean_dice"] == pytest.approx(best["score"], abs=1e-6)  # type: ignore[index, call-overload]
    assert 0 < scores["image_blind_baseline"] < 1
    counts = {name for name in scores if name.startswith("lesion_detection/lesions/")}
    assert counts == {f"lesion_detection/lesions/{part}" for part in ("ct/class 1", "mr/class 1", "mr/class 2")}

    # From elsewhere: a volume of any orientation, the mask in its geometry.
    affine = np.array([[0, 0, -1.2, 5], [-0.9, 0.1, 0, 6], [0.1, 0.9, 0, 7], [0, 0, 0, 1]])
    volume = np.random.default_rng(0).normal(200, 20, (20, 30, 25)).astype(np.float32)
    (tmp_path / "scans").mkdir()
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "scans" / "scan.nii.gz")
    inference = ("--config_file", bundle / "configs" / "inference.json", "--dataset_dir", tmp_path / "scans")
    run_bundle("run", "inference", *inference, "--domain", "mr", cwd=tmp_path)
    mask = nib.load(bundle / "eval" / "inference" / "scan_seg.nii.gz")
    assert mask.shape == volume.shape
    assert np.allclose(mask.affine, affine, atol=1e-5)
    assert set(np.unique(mask.get_fdata())) <= {0, 1, 2}
    output = run_bundle("run", *inference, "--domain", "xx", cwd=tmp_path, fails=True)
    assert output.rstrip().endswith("error: There is no domain 'xx'; the network has ct, mr.")


@pytest.mark.slow
def test_wrong_input_ends_in_one_line_and_leaves_the_earlier_model(
    bundle: Path, data: Path, run_bundle: RunBundle
) -> None:
    (bundle / "models").mkdir()
    (bundle / "models" / "model.pt").write_text("precious")
    smoke = ("run", "training", "--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)

    def last_line(*arguments: object) -> str:
        return run_bundle(*smoke, *arguments, fails=True).rstrip().splitlines()[-1]

    assert last_line("--epoch", 1).endswith("did you mean --epochs?")
    assert last_line("--domains", "ct,xx").startswith("error: domains: xx not in")
    assert last_line("--resume", "true").startswith("error:")
    path = data / "ct" / "imagesTr" / "case_0.nii.gz"
    path.write_bytes(path.read_bytes()[:-500])
    assert "case_0.nii.gz is cut off" in last_line()
    assert (bundle / "models" / "model.pt").read_text(encoding="utf-8") == "precious"
    # What only the voxels tell is found while training runs; the earlier model was moved, not lost.
    nib.save(nib.Nifti1Image(np.full((24, 28, 20), np.nan, np.float32), np.diag([1, 1, 2, 1])), path)
    line = last_line("--num_workers", 1)
    assert line == f"error: {path}: the image holds NaN or infinite voxels; replace them, or leave the case out."
    assert (bundle / "checkpoints" / "previous" / "1" / "model.pt").read_text(encoding="utf-8") == "precious"


@pytest.mark.slow
def test_a_killed_run_resumes_bit_equal_with_another_number_of_workers(
    bundle: Path, data: Path, tmp_path: Path, run_bundle: RunBundle
) -> None:
    arguments = ("run", "training", "--config_file", configs(bundle, "train", "smoke"), "--dataset_dir", data)
    arguments = (*arguments, "--epochs", 3, "--batch_size", 1)

    def target(name: str) -> tuple[object, ...]:
        return ("--run_dir", tmp_path / name)

    run_bundle(*arguments, *target("whole"))
    whole = read(tmp_path / "whole" / "checkpoints" / "last.pt")
    folder = tmp_path / "killed"
    kill_in_second_epoch(folder, [*arguments, *target(folder.name), "--num_workers", 2])
    assert read(folder / "checkpoints" / "last.pt")["epoch"] == 1
    run_bundle(*arguments, *target(folder.name), "--num_workers", 2, "--resume", "True")
    assert same(without_options(read(folder / "checkpoints" / "last.pt")), without_options(whole))
    assert same(read(folder / "models" / "model.pt"), read(tmp_path / "whole" / "models" / "model.pt"))
    assert without_times(folder / "eval" / "metrics.csv") == without_times(tmp_path / "whole/eval/metrics.csv")


def test_export_and_load_rebuild_the_trained_network_from_its_settings(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = build_network({"task": "domains", "num_classes": {"a": 2, "b": 3}, "depth": 10, "dilations": (2, 2)})
    classes = {"a": ["0", "1"], "b": ["0", "1", "2"]}
    default = read_config(bundle, "inference")["settings"]["default"]
    settings = {**default, "bundle": bundle.name, "network": network.settings, "classes": classes}
    write_json(bundle / "models" / "settings.json", settings)
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    monkeypatch.chdir(bundle)
    ckpt_export(
        "network_def",
        filepath="models/model.ts",
        ckpt_file="models/model.pt",
        meta_file="configs/metadata.json",
        config_file="configs/inference.json",
        key_in_ckpt="",
    )
    image = torch.rand(1, 1, 24, 24, 24)
    exported = torch.jit.load("models/model.ts").eval()
    loaded = load(bundle.name, bundle_dir=str(bundle.parent), source="monaihosting", workflow_type="inference").eval()
    with torch.no_grad():
        assert torch.allclose(exported(image), network(image), atol=1e-5)
        assert torch.equal(loaded(image), network(image))
        assert torch.allclose(exported(image, domain="b"), network(image, domain="b"), atol=1e-5)


def without_options(last: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in last.items() if key != "options"}


def kill_in_second_epoch(folder: Path, arguments: list[object]) -> None:
    """Start a training and kill it, with its workers, after the state of its first epoch was saved."""
    command = [sys.executable, "-m", "monai.bundle", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    while not (folder / "checkpoints" / "last.pt").is_file():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)  # into the steps of the second epoch
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_two_processes_survive_the_loss_of_one_train_one_network_and_validate_as_one(
    bundle: Path, data: Path, tmp_path: Path, run_bundle: RunBundle
) -> None:
    keep = "$torch.save(@network_def.state_dict(), os.path.join(@run_dir, 'rank' + str(idist.get_rank()) + '.pt'))"
    multi = json.loads((bundle / "configs" / "multi_gpu_train.json").read_text(encoding="utf-8"))
    loss = {"+train#handlers": [{"_target_": "tests.bundles.workflow.DieInTheSecondEpoch"}]}
    (bundle / "configs" / "keep.json").write_text(json.dumps({"finalize": [keep, *multi["finalize"]], **loss}))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    torchrun += ["--max-restarts", "1"]
    module = ["-m", "monai.bundle", "run", "training", "--dataset_dir", str(data)]
    files = ["--config_file", configs(bundle, "train", "smoke", "multi_gpu_train", "keep")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # see docs/scaling.md
    command = [*torchrun, *module, *files]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Resumed after epoch 1" in done.stdout + done.stderr
    first, second = (read(bundle / f"rank{rank}.pt") for rank in range(2))
    assert same(first, second)
    trained = read(bundle / "checkpoints" / "last.pt")
    assert same(trained["network"], first)
    files = ["--config_file", configs(bundle, "train", "evaluate")]
    run_bundle("run", "evaluating", *files, "--dataset_dir", data, cwd=tmp_path)
    scores = json.loads((bundle / "eval" / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert scores["val_mean_dice"] == pytest.approx(trained["best"]["score"], abs=1e-6)  # type: ignore[index, call-overload]
