"""Files whose names carry what wrappers put there, written by the libraries that write them."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from ignite.engine import Engine
from monai.handlers import CheckpointSaver
from safetensors.torch import save_file
from torch import nn

from med3d_components.weights import load_checkpoint, load_encoder
from med3d_components.weights.identify import unwrap
from tests.weights.conftest import assert_unchanged, copy_of, med3d, prefixed, random_state, save


class Hyperparameters(dict):
    """What Lightning pickles beside the weights: a dict of a class of its own."""


class Holder(nn.Module):
    """A user's module around the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.model = network


def compiled(network: nn.Module) -> nn.Module:
    module = torch.compile(network)
    assert isinstance(module, nn.Module)
    return module


class HubModel(nn.Module, PyTorchModelHubMixin):
    """A model for the Hub, which keeps it as safetensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone = network


def lightning(network: nn.Module, path: Path, extra: object) -> Path:
    holder = Holder(torch.compile(network, backend="eager"))
    state = OrderedDict({**holder.state_dict(), "loss.weight": torch.ones(2)})
    torch.save({"epoch": 1, "pytorch-lightning_version": "2.5.0", "state_dict": state, "hyper_parameters": extra}, path)
    return path


def monai_saver(network: nn.Module, path: Path) -> Path:
    engine = Engine(lambda engine, batch: None)
    parts = {"model": nn.DataParallel(network), "optimizer": torch.optim.SGD(network.parameters(), 0.1)}
    CheckpointSaver(str(path.parent), parts, save_final=True, final_filename=path.name).attach(engine)
    engine.run([0], max_epochs=1)
    return path


def hub(network: nn.Module, path: Path) -> Path:
    HubModel(network).save_pretrained(path.parent)
    return path.parent / "model.safetensors"


def safetensors(network: nn.Module, path: Path) -> Path:
    save_file(network.state_dict(), path)
    return path


def saved(module: nn.Module, path: Path) -> Path:
    torch.save(module.state_dict(), path)
    return path


FILES = {
    "DataParallel": (lambda n, path: saved(nn.DataParallel(n), path), "module."),
    "compiled": (lambda n, path: saved(torch.compile(n), path), "_orig_mod."),
    "compiled in DataParallel": (lambda n, path: saved(nn.DataParallel(compiled(n)), path), "module._orig_mod."),
    "twice in DataParallel": (lambda n, path: saved(nn.DataParallel(nn.DataParallel(n)), path), "module.module."),
    "Lightning": (lambda n, path: lightning(n, path, {"lr": 0.1}), "model._orig_mod."),
    "Lightning's own dict": (lambda n, path: lightning(n, path, Hyperparameters(lr=0.1)), "model._orig_mod."),
    "Lightning's namespace": (lambda n, path: lightning(n, path, argparse.Namespace(lr=0.1)), "model._orig_mod."),
    "a path among the options": (lambda n, path: lightning(n, path, {"root": path}), "model._orig_mod."),
    "MONAI's CheckpointSaver": (monai_saver, None),
    "the Hub's mixin": (hub, "backbone."),
    "safetensors": (safetensors, None),
}


@pytest.mark.parametrize("kind", FILES)
def test_weights_load_and_the_report_says_which_prefix_was_taken_off(kind, teacher, student, tmp_path) -> None:
    write, prefix = FILES[kind]
    report = load_encoder(student, write(teacher, tmp_path / "weights.ckpt"))
    assert report.share == 1
    assert_unchanged(student, teacher.state_dict())
    assert f"prefix {prefix!r} taken off" in str(report) if prefix else report.adapted == ()


def test_a_whole_network_loads_from_a_path_of_any_kind_of_wrapper(tmp_path) -> None:
    network, other = med3d({"Liver": 2}), med3d({"Liver": 2})
    network.load_state_dict(random_state(network))
    network.encoder.layer1 = torch.compile(network.encoder.layer1)
    report = load_checkpoint(other, saved(nn.DataParallel(network), tmp_path / "model.pt"))
    assert "prefix 'module.' taken off 74 names; _orig_mod taken out of 12 names" in str(report)
    assert not any("_orig_mod" in name for name in other.state_dict())
    assert report.share == 1


def test_a_compiled_network_and_one_in_data_parallel_take_weights(teacher, student, tmp_path) -> None:
    path = saved(teacher, tmp_path / "encoder.pt")
    for wrapped in (torch.compile(student), nn.DataParallel(student)):
        student.load_state_dict({name: torch.zeros_like(x) for name, x in student.state_dict().items()})
        assert load_encoder(wrapped, path).share == load_checkpoint(wrapped, path).share == 1
        assert_unchanged(student, teacher.state_dict())


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_an_encoder_that_was_wrapped_inside_its_network_takes_and_gives_weights(wrap, teacher, student, tmp_path):
    network = Holder(nn.Identity())
    network.encoder = wrap(student)
    assert load_encoder(network, saved(teacher, tmp_path / "encoder.pt")).share == 1
    assert_unchanged(student, teacher.state_dict())
    path = saved(nn.DataParallel(network), tmp_path / "model.pt")
    inside = "_orig_mod" if wrap is torch.compile else "module"
    assert any(name.startswith(f"module.encoder.{inside}.") for name in torch.load(path))
    student.load_state_dict({name: torch.zeros_like(x) for name, x in student.state_dict().items()})
    report = load_encoder(student, path)
    assert_unchanged(student, teacher.state_dict())
    assert report.share == 1
    assert f"{inside} taken out of" in str(report)


def test_a_name_that_the_network_has_itself_stays(tmp_path) -> None:
    network = nn.ModuleDict({"model": nn.Linear(2, 2), "module": nn.ModuleDict({"net": nn.Linear(2, 2)})})
    path = save({name: x + 1 for name, x in network.state_dict().items()}, tmp_path / "model.pt")
    assert load_checkpoint(network, path).adapted == ()
    path = save(prefixed(network.state_dict(), "module."), tmp_path / "model.pt")
    (adapted,) = load_checkpoint(network, path).adapted
    assert adapted == "prefix 'module.' taken off 4 names"


def test_what_is_there_under_both_names_is_refused(tmp_path) -> None:
    network = nn.Linear(2, 2)
    path = save({**prefixed(network.state_dict(), "model."), **network.state_dict()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"unexpected: model \(2 entries\)"):
        load_checkpoint(network, path)


def test_the_wrapper_of_another_network_is_taken_off_where_all_names_have_it() -> None:
    assert unwrap({"module.x.weight": torch.ones(1)}, ["y.weight"])[0].keys() == {"x.weight"}
    assert unwrap({"module.x": torch.ones(1), "z": torch.ones(1)}, ["y"])[1] == []


def test_what_is_beside_a_wrapped_encoder_is_dropped_and_named(teacher, student, tmp_path) -> None:
    assert load_encoder(student, lightning(teacher, tmp_path / "weights.ckpt", {})).dropped == ("loss.weight",)


WRONG = {
    "NaN": (lambda x: torch.full_like(x, torch.nan), "values that are NaN or infinite in 2 entries"),
    "infinite": (lambda x: torch.full_like(x, -torch.inf), "values that are NaN or infinite in 2 entries"),
    "too large": (lambda x: x.double() + 1e300, "values that are NaN or infinite in 2 entries"),
    "complex": (lambda x: x.to(torch.complex64), "complex numbers in 2 entries"),
    "integer": (lambda x: x.to(torch.int64), "int64 where the network has float32 in 2 entries"),
    "sparse": (lambda x: x.to_sparse(), "sparse or nested tensors in 2 entries"),
    "of 8 bits": (lambda x: x.to(torch.float8_e4m3fn), "float8_e4m3fn, whose scale is unknown, in 2 entries"),
    "truth values": (lambda x: x > 0, "bool where the network has float32 in 2 entries"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("load", [load_encoder, load_checkpoint])
def test_values_that_no_trained_network_has_are_refused_and_change_nothing(wrong, load, teacher, student, tmp_path):
    change, message = WRONG[wrong]
    state = teacher.state_dict()
    for name in ("conv1.weight", "layer2.0.bn1.running_var"):
        state[name] = change(state[name])
    before = copy_of(student)
    with pytest.raises(ValueError, match=f"{message}, the first of them conv1.weight") as error:
        load(student, save(state, tmp_path / "file.pt"))
    assert "\n" not in str(error.value)
    assert_unchanged(student, before)


@pytest.mark.parametrize("load", [load_encoder, load_checkpoint])
def test_a_negative_variance_is_refused(load, teacher, student, tmp_path) -> None:
    name = "layer2.0.bn1.running_var"
    state = {**teacher.state_dict(), name: -teacher.state_dict()[name]}
    before = copy_of(student)
    with pytest.raises(ValueError, match=f"negative variances in 1 entry, the first of them {name}"):
        load(student, save(state, tmp_path / "file.pt"))
    assert_unchanged(student, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_floating_point_numbers_are_converted_which_the_report_says(dtype, teacher, student, tmp_path) -> None:
    state = {name: x.to(dtype) if x.is_floating_point() else x for name, x in teacher.state_dict().items()}
    report = load_encoder(student, save(state, tmp_path / "file.pt"))
    name = str(dtype).removeprefix("torch.")
    assert report.adapted == (f"{name} converted to float32 (60 entries)",)
    assert student.conv1.weight.dtype is torch.float32
    assert torch.equal(student.conv1.weight, state["conv1.weight"].float())
