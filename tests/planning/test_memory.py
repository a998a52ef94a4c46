from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.engines import SupervisedTrainer

from med3d_components.planning.memory import Peak, predict_peak
from med3d_components.planning.rehearsal import bundle_trainer
from scripts.planner.measuring import MEASURING_ENVIRONMENT, measure_peak
from tests.conftest import ROOT

LUNG, FINE = ROOT / "bundles" / "lung_segmentation", ROOT / "bundles" / "liver_ct_fine_segmentation"
FLOAT = 4  # bytes


def predict(bundle: Path = LUNG, edge: int = 32, batch_size: int = 1, depth: int = 10, **options: Any) -> Peak:
    return predict_peak(partial(bundle_trainer, bundle, [edge] * 3, batch_size, depth=depth, **options))


def linear_trainer(optimizer: Callable[..., torch.optim.Optimizer], in_features: int = 64, rows: int = 4096) -> Any:
    network = torch.nn.Linear(in_features, 32, bias=False)
    batch = {"image": torch.rand(rows, in_features), "label": torch.rand(rows, 32)}
    return SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[batch] * 2,
        network=network,
        optimizer=optimizer(network.parameters(), lr=0.1),
        loss_function=torch.nn.MSELoss(),
        optim_set_to_none=True,
        decollate=False,
    )


def test_the_peak_of_a_linear_layer_is_what_can_be_counted_by_hand() -> None:
    peak = predict_peak(partial(linear_trainer, torch.optim.SGD))
    weight, output = 64 * 32 * FLOAT, 4096 * 32 * FLOAT
    assert (peak.parameters, peak.optimizer, peak.workspace) == (weight, 0, 0)
    # The prediction, and of the loss at least its gradient; the batch was there before.
    assert 2 * output <= peak.activations <= 4 * output


def test_the_state_of_adam_is_twice_the_parameters() -> None:
    peak = predict_peak(partial(linear_trainer, torch.optim.Adam))
    assert peak.optimizer == pytest.approx(2 * peak.parameters, abs=FLOAT)


def test_memory_that_is_freed_is_counted_no_more() -> None:
    once = predict_peak(partial(linear_trainer, torch.optim.SGD))
    assert once == predict_peak(partial(linear_trainer, torch.optim.SGD))


def test_parts_sum_up_to_the_total() -> None:
    assert Peak(1, 2, 3, 4, 5).total == 15


def test_a_larger_region_batch_or_depth_needs_more() -> None:
    base = predict(edge=48).total
    assert predict(edge=64).total > base
    assert predict(edge=48, batch_size=2).total > base
    assert predict(edge=48, depth=18).total > base


def test_bfloat16_needs_less_than_float32() -> None:
    assert predict(edge=64, precision="bf16").total < predict(edge=64, precision="float32").total


def test_checkpointing_keeps_fewer_activations_and_the_same_parameters() -> None:
    kept, recomputed = (
        predict(FINE, 96, 2, 18, precision="float32", decoder="paper", checkpointing=flag) for flag in (False, True)
    )
    assert recomputed.parameters == kept.parameters
    assert recomputed.activations + recomputed.workspace < 0.9 * (kept.activations + kept.workspace)


def test_a_convolution_has_a_workspace_of_its_input_and_output() -> None:
    # The last group of the paper's decoder at 64 cubed: 64 channels in, 32 out.
    weight = 64 * 32 * 27
    assert predict(edge=64, precision="float32", decoder="paper").workspace == FLOAT * (64**3 * (64 + 32) + weight)


MEASURE = """
import sys
from functools import partial
from pathlib import Path
from scripts.planner.measuring import measure_peak
from med3d_components.planning.rehearsal import bundle_trainer
bundle, precision = sys.argv[1:]
print(measure_peak(partial(bundle_trainer, Path(bundle), [64] * 3, 1, depth=10, precision=precision)).total)
"""


def test_a_measured_training_took_some_time_and_memory() -> None:
    measured = measure_peak(partial(linear_trainer, torch.optim.Adam))
    assert measured.seconds > 0
    assert math.isnan(measured.total) or measured.total >= 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or torch.cuda.is_available(), reason="resident memory of a CPU on Linux")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_prediction_is_within_a_quarter_of_what_a_real_training_takes(precision: str) -> None:
    environment = {**os.environ, **MEASURING_ENVIRONMENT, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(LUNG), precision]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=True)
    measured = float(done.stdout.split()[-1])
    assert predict(edge=64, precision=precision).total == pytest.approx(measured, rel=0.25)
