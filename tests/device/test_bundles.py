"""Checks that need a CUDA device: `make test-gpu` runs them, or says that there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.inferers import SimpleInferer

from med3d_components.data.synthetic import write_nodules
from med3d_components.inferers import PrecisionInferer
from med3d_components.networks import Med3DNet
from tests.bundles.workflow import configs, copy_bundle, read_table
from tests.conftest import MakeDomain, RunBundle

pytestmark = pytest.mark.gpu


def test_bf16_on_the_gpu_stays_near_float32() -> None:
    torch.manual_seed(0)
    network = Med3DNet({"a": 3}, depth=10).cuda().eval()
    image = torch.randn(1, 1, 64, 64, 64, device="cuda")
    with torch.no_grad():
        half, full = (PrecisionInferer(SimpleInferer(), bf16)(image, network) for bf16 in (True, False))
    assert half.dtype == torch.float32
    assert float((half - full).abs().max()) < 0.05 * float(full.abs().max())


@pytest.mark.parametrize("name", ["med3d_pretraining", "lung_segmentation", "lung_nodule_ct_classification"])
def test_a_bundle_trains_on_the_gpu(name: str, tmp_path: Path, make_domain: MakeDomain, run_bundle: RunBundle) -> None:
    bundle = copy_bundle(name, tmp_path)
    if name == "lung_nodule_ct_classification":
        write_nodules(tmp_path / "data", cases=8)
    else:
        make_domain(tmp_path / "data", cases=5)
    files = configs(bundle, "train", "smoke")
    run_bundle("run", "training", "--config_file", files, "--dataset_dir", tmp_path / "data", "--epochs", 1)
    assert float(read_table(bundle / "eval" / "metrics.csv")[0]["train_loss"]) > 0
