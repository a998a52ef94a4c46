from __future__ import annotations

import hashlib
import os
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
    assert list(file.state) == ["a.module.b"]
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


def test_another_archive_is_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("report.txt", "no weights")
    assert "is damaged, cut short or not written by torch.save" in refusal(path)


def test_a_pickle_that_runs_code_is_refused_and_not_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(2), "b": RunsCode()}, path)
    assert "can run code" in refusal(path)
    assert not (tmp_path / "evidence").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_scalars_are_refused_by_name(zipped, path):
    content = {"state_dict": {"a": torch.ones(2)}, "best": np.float64(0.9)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refusal(path)
    assert "multiarray.scalar" in message
    assert "save its state_dict alone" in message


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
