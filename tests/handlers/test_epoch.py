from __future__ import annotations

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Engine

from med3d_components.data import DomainBatchSampler
from med3d_components.handlers import EpochSeeder


def draws(epochs: range, seed: int = 0) -> dict[int, tuple[float, float, int]]:
    """Return what torch and NumPy draw in each epoch, and the epoch that the sampler was told."""
    sampler = DomainBatchSampler(["a"], 1)
    seen = {}

    def step(engine: Engine, batch: int) -> None:
        seen[engine.state.epoch] = (torch.rand(1).item(), float(np.random.rand()), sampler.epoch)  # noqa: NPY002

    engine = Engine(step)
    EpochSeeder(sampler, torch.nn.BatchNorm3d(1), seed).attach(engine)
    engine.load_state_dict({"epoch": epochs.start - 1, "max_epochs": epochs.stop - 1, "epoch_length": 1})
    engine.run([0])
    return seen


def test_an_epoch_draws_the_same_whether_earlier_ones_ran_or_not() -> None:
    whole = draws(range(1, 4))
    assert {key: value[2] for key, value in whole.items()} == {1: 1, 2: 2, 3: 3}
    assert draws(range(3, 4))[3] == whole[3]
    assert len(set(whole.values())) == 3
    assert draws(range(1, 2), seed=1)[1] != whole[1]


def test_all_processes_validate_with_the_buffers_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = []
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(idist, "broadcast", lambda buffer, src: shared.append((buffer.shape, src)))
    EpochSeeder(DomainBatchSampler(["a"], 1), torch.nn.BatchNorm3d(2)).share_buffers()
    assert shared == [((2,), 0), ((2,), 0), ((), 0)]
