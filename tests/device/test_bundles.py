"""Each bundle trains, is evaluated and infers on a device, emulated (`make test-device`) or of CUDA (`make test-gpu`).

The emulated device has memory of its own and computes on the CPU. It raises CUDA's errors where an operation mixes two
devices, or numpy is asked of a tensor of the device; of speed and memory it says nothing.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import nibabel as nib
import pytest
import torch
from monai.inferers import SimpleInferer

from med3d_components.inferers import FastInferer
from med3d_components.networks import Med3DNet
from med3d_components.utils import write_json
from tests.bundles.workflow import read_table
from tests.conftest import BUNDLES
from tests.device.workflow import (
    DEVICE_ERROR,
    OnDevice,
    bundle_on,
    compare_results,
    compare_scores,
    on_each_device,
    places_of,
)

EXACT = ("--precision", "float32")
each_bundle = on_each_device(*(bundle.name for bundle in BUNDLES))
one_bundle = on_each_device("lung_segmentation")


@each_bundle
def test_a_bundle_trains_on_the_device(trained: OnDevice) -> None:
    (row,) = read_table(trained.bundle / "eval" / "metrics.csv")
    assert 0 < float(row["train_loss"]) < math.inf
    last = trained.bundle / "checkpoints" / "last.pt"
    # A state_dict is saved with the place of its tensors.
    assert places_of(last) <= {trained.device, "cpu"}
    assert places_of(trained.bundle / "checkpoints" / "encoder.pt") == {trained.device}
    states = torch.load(last, map_location="cpu", weights_only=True)["optimizer"]["state"].values()
    assert any(bool(value.any()) for state in states for value in state.values())  # the optimiser has moved


@each_bundle
def test_an_evaluation_on_the_device_finds_the_scores_of_one_on_a_cpu(settled: OnDevice, tmp_path: Path) -> None:
    settled.evaluate("--output_dir", tmp_path / "device", *EXACT)
    settled.on_cpu().evaluate("--output_dir", tmp_path / "cpu", *EXACT)
    compare_scores(tmp_path / "device", tmp_path / "cpu")


@each_bundle
def test_an_inference_on_the_device_finds_what_one_on_a_cpu_finds(settled: OnDevice, tmp_path: Path) -> None:
    settled.infer("--output_dir", tmp_path / "device", *EXACT)
    settled.on_cpu().infer("--output_dir", tmp_path / "cpu", *EXACT)
    compare_results(tmp_path / "device", tmp_path / "cpu")


@on_each_device("liver_ct_coarse_segmentation")
def test_the_cascade_of_two_trained_networks_segments_on_the_device_as_on_a_cpu(
    settled: OnDevice, tmp_path: Path
) -> None:
    coarse = settled.bundle / "models" / "model.pt"
    settings = json.loads(coarse.with_name("settings.json").read_text(encoding="utf-8"))
    fine = bundle_on(settled.device, "liver_ct_fine_segmentation", tmp_path, settled.data)
    write_json(fine.bundle / "configs" / "own.json", {"coarse": settings, "coarse_checkpoint": str(coarse)})
    fine.train(files=("train", "smoke", "own"))
    both = torch.load(fine.bundle / "models" / "model.pt", map_location="cpu", weights_only=True)
    weights = torch.load(coarse, map_location="cpu", weights_only=True)
    assert all(torch.equal(both[f"coarse.{name}"], value) for name, value in weights.items())

    fine.settle()
    for bundle in (fine, fine.on_cpu()):
        bundle.evaluate("--output_dir", tmp_path / bundle.device / "scores", *EXACT)
        bundle.infer("--output_dir", tmp_path / bundle.device / "results", *EXACT)
    compare_scores(tmp_path / fine.device / "scores", tmp_path / "cpu" / "scores")
    compare_results(tmp_path / fine.device / "results", tmp_path / "cpu" / "results")


@one_bundle
def test_a_training_is_resumed_on_the_device(copy: OnDevice) -> None:
    output = copy.train("--epochs", 2, "--resume", True)
    assert "Resumed after epoch 1" in output
    assert [row["epoch"] for row in read_table(copy.bundle / "eval" / "metrics.csv")] == ["1", "2"]


@one_bundle
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_bundle_trains_and_infers_in_half_the_precision(precision: str, copy: OnDevice, tmp_path: Path) -> None:
    output = copy.train("--precision", precision)
    assert f"precision    {precision} (as asked for)" in output.splitlines()
    last = torch.load(copy.bundle / "checkpoints" / "last.pt", map_location="cpu", weights_only=True)
    assert last["precision"] == precision
    assert ("scaler" in last) == (precision == "fp16")
    assert all(bool(value.isfinite().all()) for value in last["network"].values())
    copy.settle()
    for folder, device in (("half", copy), ("full", copy.on_cpu())):
        precisions = ("--precision", precision if folder == "half" else "float32")
        device.infer("--output_dir", tmp_path / folder, *precisions)
    ours, theirs = (nib.load(tmp_path / folder / "case_0_seg.nii.gz").get_fdata() for folder in ("half", "full"))
    assert 0 < theirs.mean() < theirs.max()
    assert (ours != theirs).mean() < 0.05


@one_bundle
def test_auto_goes_by_what_is_known_of_the_device(copy: OnDevice) -> None:
    expected = r"(bf16|fp16) \(the GPU's" if copy.device == "cuda" else r"float32 \(nothing is known of bf16"
    assert re.search(rf"^precision    {expected}", copy.infer(), re.MULTILINE)


@one_bundle
def test_a_device_may_be_given_by_its_name(copy: OnDevice) -> None:
    # MONAI Label does.
    copy.train(given=copy.device)
    copy.settle()
    copy.evaluate(given=copy.device)
    copy.infer(given=copy.device)
    assert (copy.bundle / "eval" / "inference" / "case_0_seg.nii.gz").is_file()


MISTAKES = {
    "metric": {"validate#evaluator#additional_metrics": {"mistake": {"_target_": "tests.device.mistakes.Agreement"}}},
    "handler": {"+validate#handlers": [{"_target_": "tests.device.mistakes.VolumeLog"}]},
    "transform": {
        "validate#postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "tests.device.mistakes.Tilted", "keys": "pred"},
                {"_target_": "med3d_components.transforms.Confidenced", "keys": "pred"},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        }
    },
}


@one_bundle
@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_that_no_cpu_shows_ends_a_run_on_the_device(kind: str, copy: OnDevice) -> None:
    write_json(copy.bundle / "configs" / "mistake.json", MISTAKES[kind])
    files = ("train", "evaluate", "mistake")
    copy.on_cpu().evaluate(files=files)
    output = copy.evaluate(files=files, fails=True)
    assert re.search(DEVICE_ERROR, output), output


@one_bundle
def test_a_run_that_stays_on_the_cpu_is_told(copy: OnDevice) -> None:
    with pytest.raises(AssertionError, match="ran elsewhere"):
        copy.infer(given="cpu")


@pytest.mark.gpu
def test_bf16_on_the_gpu_stays_near_float32() -> None:
    torch.manual_seed(0)
    network = Med3DNet({"a": 3}, depth=10).cuda().eval()
    image = torch.randn(1, 1, 64, 64, 64, device="cuda")
    with torch.no_grad():
        half, full = (FastInferer(SimpleInferer(), name)(image, network) for name in ("bf16", "float32"))
    assert half.dtype == torch.float32
    assert float((half - full).abs().max()) < 0.05 * float(full.abs().max())
