"""Checks that need a CUDA device: `make test-gpu` runs them, or says that there is none."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch
from monai.inferers import SimpleInferer

from med3d_components.inferers import PrecisionInferer
from med3d_components.networks import Med3DNet
from tests.conftest import ROOT, MakeDomain, RunBundle

pytestmark = pytest.mark.gpu


def test_bf16_on_the_gpu_stays_near_float32() -> None:
    torch.manual_seed(0)
    network = Med3DNet({"a": 3}, depth=10).cuda().eval()
    image = torch.randn(1, 1, 64, 64, 64, device="cuda")
    with torch.no_grad():
        half, full = (PrecisionInferer(SimpleInferer(), bf16)(image, network) for bf16 in (True, False))
    assert half.dtype == torch.float32
    assert float((half - full).abs().max()) < 0.05 * float(full.abs().max())


def test_the_pretraining_bundle_trains_on_the_gpu(
    tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle
) -> None:
    bundle = tmp_path / "med3d_pretraining"
    shutil.copytree(ROOT / "bundles" / bundle.name, bundle, ignore=shutil.ignore_patterns("models", "eval"))
    make_domain(tmp_path / "data" / "a", cases=5)
    files = str([str(bundle / "configs" / name) for name in ("train.json", "smoke.json")])
    run_bundle("run", "training", "--config_file", files, "--dataset_dir", tmp_path / "data", "--epochs", 1)
    with (bundle / "eval" / "metrics.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["train_loss"]) > 0
