from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from med3d_components.weights.read import read_weights


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


class RunsCode:
    """A pickle that runs a command when it is read."""

    def __reduce__(self):
        return os.mkdir, ("evidence",)


def test_names_tensors_settings_and_hash_are_returned(path):
    torch.save({"state_dict": {"module.a.module.b": torch.ones(2)}, "settings": {"depth": 10}}, path)
    file = read_weights(path)
    assert list(file.state) == ["module.a.module.b"]
    assert file.settings == {"depth": 10}
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_right_hash_is_accepted(path):
    torch.save({"a": torch.ones(2)}, path)
    assert read_weights(path, hashlib.sha256(path.read_bytes()).hexdigest()).settings == {}


def test_the_wrong_hash_is_refused(path):
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"has the sha256 [0-9a-f]{64}, but its weight card says 123"):
        read_weights(path, "123")


def test_a_missing_file_is_named(path):
    with pytest.raises(FileNotFoundError, match=r"There is no weight file .*weights\.pth"):
        read_weights(path)


def refusal(path):
    with pytest.raises(ValueError, match=r"weights\.pth ") as error:
        read_weights(path)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"  \n<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (bytes(range(256)) * 8, "is damaged, cut short or not written by torch.save"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused_in_one_line(content, message, path):
    path.write_bytes(content)
    assert message in refusal(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_refused(zipped, path):
    torch.save({"a": torch.ones(10_000)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:9_000])
    assert "is damaged, cut short" in refusal(path)


def test_a_pickle_that_runs_code_is_refused_and_not_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(2), "b": RunsCode()}, path)
    assert "can run code" in refusal(path)
    assert not (tmp_path / "evidence").exists()


def test_objects_beside_the_weights_are_left_out_and_named(path):
    torch.save({"state_dict": {"a": torch.ones(2)}, "best": np.float64(0.9), "settings": {"depth": 10}}, path)
    file = read_weights(path)
    assert list(file.state) == ["a"]
    assert file.settings == {"depth": 10}
    assert any("multiarray.scalar" in name for name in file.left_out)


def test_in_the_old_file_format_they_are_refused_by_name(path):
    content = {"state_dict": {"a": torch.ones(2)}, "best": np.float64(0.9)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    message = refusal(path)
    assert "multiarray.scalar" in message
    assert "save its state_dict alone" in message


class Evaluates:
    """A pickle that evaluates text when it is read."""

    def __reduce__(self):
        return eval, ("__import__('os').mkdir('evidence')",)


def test_what_is_left_out_is_not_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.ones(2)}, "b": Evaluates()}, path)
    assert read_weights(path).left_out
    assert not (tmp_path / "evidence").exists()


def test_a_pickled_network_is_refused_by_name(path):
    torch.save(torch.nn.Linear(2, 2), path)
    assert "torch.nn.modules.linear.Linear" in refusal(path)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:.torch.load. received a zip:UserWarning")
def test_a_torchscript_archive_is_refused(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert "is a TorchScript archive" in refusal(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(2), "holds a Tensor, not a state_dict"),
        ({}, "holds no weights"),
        ({"state_dict": {}}, "holds no weights"),
        ({"epoch": 3, "loss": 0.1}, "it has the entries epoch, loss; expected tensors by name"),
        ({0: torch.ones(2)}, "it has the entries 0"),
    ],
)
def test_a_file_without_state_dict_is_refused(content, message, path):
    torch.save(content, path)
    assert message in refusal(path)


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "content")


def old_tar(path):
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name))


def onnx_file(path):
    network = torch.nn.Linear(2, 2)
    torch.onnx.export(network, (torch.ones(1, 2),), path, dynamo=True, verbose=False)


OTHERS = {
    "zip": ("x.zip", lambda path: zipped(path, "report.txt"), r"is a zip archive \(report.txt\); unpack it"),
    "bundle": (
        "bundle.zip",
        lambda path: zipped(path, "med3d/configs/metadata.json", "med3d/models/model.pt"),
        "is the zip of a bundle; unpack it, and give med3d/models/model.pt",
    ),
    "npz": ("x.npz", lambda path: np.savez(path, a=np.ones(2)), r"holds arrays of NumPy \(.npz\); make tensors"),
    "npy": ("x.npy", lambda path: np.save(path, np.ones(2)), "is a NumPy array"),
    "HDF5": ("x.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "is a HDF5 file, such as Keras"),
    "Keras": ("x.keras", lambda path: zipped(path, "config.json", "model.weights.h5"), "is a Keras model"),
    "pickle": ("x.pkl", lambda path: path.write_bytes(pickle.dumps({"a": 1})), "is a pickle that torch.save did not"),
    "TensorFlow": ("m.ckpt.data-00000-of-00001", lambda path: path.write_bytes(bytes(range(64))), "TensorFlow checkp"),
    "ONNX": ("x.onnx", onnx_file, "is an ONNX file; give the checkpoint that it was exported from"),
    "torch.export": (
        "x.pt2",
        lambda path: torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), path),
        "is a program of torch.export",
    ),
    "tar of PyTorch 0.1": ("x.t7", old_tar, "is a tar file of PyTorch 0.1"),
    "gzip": ("x.tar.gz", lambda path: path.write_bytes(gzip.compress(b"content")), "is compressed by gzip; unpack it"),
    "JSON": ("model.safetensors.index.json", lambda path: path.write_text('{"weight_map": {}}'), "is a JSON file"),
    "safetensors": (
        "x.safetensors",
        lambda path: path.write_bytes((20).to_bytes(8, "little") + b'{"a": damaged header, and more'),
        "is a damaged safetensors file",
    ),
    "folder": ("folder", lambda path: path.mkdir(), "is a folder; give the file of weights that is in it"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OTHERS)
def test_what_another_program_wrote_is_named_with_what_to_do(kind, tmp_path):
    name, write, message = OTHERS[kind]
    path = tmp_path / name
    write(path)
    with pytest.raises(ValueError, match=message) as error:
        read_weights(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))
