from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from med3d_components.handlers import StrictCheckpointLoader
from med3d_components.networks import DilatedResNet, GenesisSegmentationNet, GenesisUNet, Med3DNet
from med3d_components.weights import load_encoder
from tests.handlers.conftest import ORIGIN, Train


def bias(path: Path) -> float:
    return float(torch.load(path, weights_only=True)["branches.liver.bias"][0])


def test_the_best_network_is_kept_not_the_last(train: Train, tmp_path: Path) -> None:
    train([0.2])
    best = bias(tmp_path / "models" / "model.pt")
    train([0.2, 0.1, None])
    assert bias(tmp_path / "models" / "model.pt") == best
    last = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert last["best"] == {"score": 0.2, "epoch": 1}
    assert last["epoch"] == 3
    assert float(last["network"]["branches.liver.bias"][0]) != best


def test_the_last_network_is_kept_while_nothing_can_be_scored(train: Train, tmp_path: Path) -> None:
    engine = train([math.nan, math.nan])
    checkpoint = engine.state.checkpoint
    last = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert bias(tmp_path / "models" / "model.pt") == float(last["network"]["branches.liver.bias"][0])
    assert checkpoint.best["epoch"] == 0
    assert checkpoint.evaluator.state.best_metric_epoch == -1  # what MONAI begins with, so that a score is the best
    train([math.nan, 0.2, math.nan])
    assert torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)["best"] == {"score": 0.2, "epoch": 2}
    assert bias(tmp_path / "models" / "model.pt") == bias_after(train, 2, tmp_path)


def bias_after(train: Train, epochs: int, folder: Path) -> float:
    train([0.1] * (epochs - 1) + [0.9])
    return bias(folder / "models" / "model.pt")


def test_weights_that_are_no_numbers_are_not_kept(train: Train, tmp_path: Path) -> None:
    def diverged() -> Med3DNet:
        network = Med3DNet({"liver": 2}, depth=10)
        *_, parameter = network.parameters()
        parameter.data.fill_(math.nan)
        return network

    with pytest.raises(ValueError, match=r"After step 2, epoch 1, the network's .* is no longer finite"):
        train([math.nan], build=diverged)
    assert not (tmp_path / "models" / "model.pt").exists()


def test_models_holds_the_model_and_its_settings_alone(train: Train, tmp_path: Path) -> None:
    train([0.2, 0.3])
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["model.pt", "settings.json"]
    assert json.loads((tmp_path / "models" / "settings.json").read_text(encoding="utf-8")) == {**ORIGIN, "depth": 10}


def test_the_encoder_file_loads_into_a_bare_encoder(train: Train, tmp_path: Path) -> None:
    train([0.2])
    assert load_encoder(DilatedResNet(10), str(tmp_path / "checkpoints" / "encoder.pt")).share == 1


def test_the_encoder_file_of_a_restoring_u_net_loads_into_what_is_trained_next(train: Train, tmp_path: Path) -> None:
    engine = train([0.2], build=GenesisUNet, settings={"architecture": "genesis", "depth": None})
    unet = engine.state.checkpoint.network
    network = GenesisSegmentationNet(2)
    report = load_encoder(network, str(tmp_path / "checkpoints" / "encoder.pt"))
    assert (report.share, report.dropped) == (1, ("out_tr.final_conv.weight", "out_tr.final_conv.bias"))
    assert all(torch.equal(x, unet.state_dict()[name]) for name, x in network.encoder.state_dict().items())


def test_a_resumed_run_equals_an_uninterrupted_one_and_remembers_the_best(train: Train, tmp_path: Path) -> None:
    scores = [0.5, 0.1, 0.2, 0.4]
    train(scores)
    whole = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    train(scores[:2])
    model = bias(tmp_path / "models" / "model.pt")
    engine = train(scores, resume=True)
    resumed = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert engine.state.iteration == 8
    assert all(torch.equal(resumed["network"][key], value) for key, value in whole["network"].items())
    assert resumed["optimizer"] == whole["optimizer"]
    assert resumed["best"] == whole["best"] == {"score": 0.5, "epoch": 1}
    assert bias(tmp_path / "models" / "model.pt") == model


def test_a_run_in_fp16_goes_on_with_the_scale_of_its_loss(train: Train) -> None:
    whole = train([0.1, 0.2, 0.3], precision="fp16").scaler.state_dict()
    train([0.1], precision="fp16")
    resumed = train([0.1, 0.2, 0.3], resume=True, precision="fp16").scaler.state_dict()
    assert resumed == whole
    assert resumed["scale"] == torch.amp.GradScaler("cpu").get_scale() / 2**6


def test_a_run_that_goes_on_in_another_precision_says_so(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train([0.1], precision="fp16")
    train([0.1, 0.2], resume=True)
    assert "The run so far was in fp16; it goes on in float32 (as asked for)." in caplog.messages
    train([0.1, 0.2, 0.3], resume=True)
    assert sum("it goes on in" in message for message in caplog.messages) == 1


def test_a_fresh_run_moves_an_earlier_one_aside(train: Train, tmp_path: Path) -> None:
    for _ in range(3):
        train([0.2])
    folders = sorted((tmp_path / "checkpoints" / "previous").iterdir())
    assert [folder.name for folder in folders] == ["1", "2"]
    for folder in folders:
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["encoder.pt", "last.pt", "model.pt", "settings.json"]


def test_resuming_nothing_or_another_run_is_an_error(train: Train, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is nothing to resume"):
        train([0.2], resume=True)
    train([0.2])
    with pytest.raises(ValueError, match="made with other settings: depth is another one; seed is another one"):
        train([0.2, 0.3], resume=True, settings={"depth": 18, "seed": 1})
    assert torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)["epoch"] == 1


def test_a_checkpoint_is_loaded_when_an_engine_starts(train: Train, tmp_path: Path) -> None:
    train([0.2])
    network = Med3DNet({"liver": 2}, depth=10)
    engine = Engine(lambda engine, batch: None)
    StrictCheckpointLoader(tmp_path / "models" / "model.pt", network, ORIGIN).attach(engine)
    engine.run([0])
    assert network.branches["liver"].bias[0].item() == bias(tmp_path / "models" / "model.pt")


def test_weights_without_their_settings_are_refused(train: Train, tmp_path: Path) -> None:
    train([0.2])
    loader = StrictCheckpointLoader(tmp_path / "models" / "model.pt", Med3DNet({"liver": 2}, depth=10), {"network": {}})
    with pytest.raises(FileNotFoundError, match=r"model\.pt has no settings\.json beside it"):
        loader.load()
