from __future__ import annotations

import logging

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import Dataset

from med3d_components.data import DomainBatchSampler
from med3d_components.handlers import EpochSeeder, PretrainedEncoder
from med3d_components.networks import DilatedResNet, GenesisClassificationNet, GenesisUNet, Med3DClassificationNet


def start(network, source, **arguments):
    engine = Engine(lambda _, __: None)
    PretrainedEncoder(network, source, **{"dataset": "Task09_Spleen", **arguments}).attach(engine)
    engine.run([0])


def loaded(network, encoder) -> bool:
    return torch.equal(network.encoder.conv1.weight, encoder.conv1.weight)


def test_a_fresh_run_takes_the_weights_and_a_resumed_one_or_one_from_scratch_does_not(tmp_path):
    encoder = DilatedResNet(10)
    torch.save(encoder.state_dict(), tmp_path / "encoder.pt")
    for source, resume, expected in (
        (str(tmp_path / "encoder.pt"), False, True),
        (str(tmp_path / "encoder.pt"), "true", False),
        ("none", False, False),
        (None, False, False),
    ):
        network = Med3DClassificationNet(2, 10)
        start(network, source, resume=resume)
        assert loaded(network, encoder) == expected


def test_weights_that_may_have_seen_the_data_are_warned_of(tmp_path, caplog):
    torch.save(DilatedResNet(10).state_dict(), tmp_path / "resnet_10.pth")
    with caplog.at_level(logging.WARNING):
        start(Med3DClassificationNet(2, 10), str(tmp_path / "resnet_10.pth"), dataset=["mine", "Task09_Spleen"])
    assert [record.message.split(" may")[0] for record in caplog.records] == ["Task09_Spleen"]


def test_weights_of_another_depth_are_refused_before_the_first_step(tmp_path):
    torch.save(DilatedResNet(18).state_dict(), tmp_path / "encoder.pt")
    with pytest.raises(ValueError, match="the file holds a ResNet-18"):
        start(Med3DClassificationNet(2, 10), str(tmp_path / "encoder.pt"))


def test_published_u_net_weights_are_taken_with_a_warning_of_their_licence_and_of_the_data_they_saw(tmp_path, caplog):
    unet, network = GenesisUNet(), GenesisClassificationNet(2)
    torch.save({"state_dict": {f"module.{k}": x for k, x in unet.state_dict().items()}}, tmp_path / "file.pt")
    with caplog.at_level(logging.WARNING):
        start(network, f"genesis:{tmp_path / 'file.pt'}", dataset="LIDC-IDRI")
    assert all(torch.equal(x, unet.state_dict()[name]) for name, x in network.encoder.state_dict().items())
    licence, overlap = caplog.messages
    assert "non-commercial" in licence
    assert "LIDC-IDRI may be among the data" in overlap


def draws(epochs: range, seed: int = 0) -> dict[int, tuple[float, float, int]]:
    """Return what torch and NumPy draw in each epoch, and the epoch that the sampler was told."""
    sampler = DomainBatchSampler(Dataset([{}]), 1)
    seen = {}

    def step(engine: Engine, batch: int) -> None:
        seen[engine.state.epoch] = (torch.rand(1).item(), float(np.random.rand()), sampler.epoch)  # noqa: NPY002

    engine = Engine(step)
    engine.state.first_step = 0
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
    EpochSeeder(DomainBatchSampler(Dataset([{}]), 1), torch.nn.BatchNorm3d(2)).share_buffers()
    assert shared == [((2,), 0), ((2,), 0), ((), 0)]
