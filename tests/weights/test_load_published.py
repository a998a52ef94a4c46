from __future__ import annotations

import huggingface_hub.constants
import pytest
import torch

from med3d_components.weights import CARDS, load_encoder
from tests.weights.conftest import assert_unchanged, prefixed, resnet


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The Hub's local cache, empty, on a machine without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put_into_cache(cache, repo_id, filename, content):
    repository = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    torch.save(content, snapshot / filename)


@pytest.mark.parametrize(
    ("source", "filename"), [("medicalnet", "resnet_10.pth"), ("medicalnet_23", "resnet_10_23dataset.pth")]
)
def test_published_weights_load_from_the_local_cache_without_a_network(source, filename, teacher, student, hub_cache):
    content = {"state_dict": prefixed(teacher.state_dict(), "module.")}
    put_into_cache(hub_cache, "TencentMedicalNet/MedicalNet-Resnet10", filename, content)
    report = load_encoder(student, source)
    assert report.share == 1
    assert (report.source, report.path.name) == (source, filename)
    assert_unchanged(student, teacher.state_dict())


def test_without_network_and_cache_the_error_says_what_to_download(student, hub_cache):
    with pytest.raises(FileNotFoundError) as error:
        load_encoder(student, "medicalnet")
    message = str(error.value)
    assert "\n" not in message
    assert "https://huggingface.co/TencentMedicalNet/MedicalNet-Resnet10/resolve/main/resnet_10.pth" in message
    assert "give the file's path instead of 'medicalnet'" in message


def test_any_failure_of_the_hub_is_one_clear_line(student, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("client has been closed\nand more")

    monkeypatch.setattr("med3d_components.weights.read.hf_hub_download", fail)
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded \(RuntimeError\); download https"):
        load_encoder(student, "medicalnet_23")


def test_a_download_with_another_hash_than_its_card_is_refused(hub_cache):
    (card,) = (card for card in CARDS if card.sha256)
    put_into_cache(hub_cache, card.repo_id, card.filename, {"conv1.weight": torch.zeros(1)})
    network = resnet(50)
    with pytest.raises(ValueError, match=f"has the sha256 [0-9a-f]{{64}}, but its weight card says {card.sha256}"):
        load_encoder(network, "medicalnet")


@pytest.mark.parametrize(
    ("arguments", "source", "message"),
    [
        ({"depth": 101}, "medicalnet_23", "no weights of depth 101; it has the depths 10, 18, 34, 50"),
        ({"depth": 18, "shortcut_type": "B"}, "medicalnet", "build the network with shortcut_type='A'"),
        ({"depth": 10, "dilations": (2, 2)}, "medicalnet", r"build the network with dilations=\[2, 4\]"),
        ({"depth": 200, "preactivation": True}, "medicalnet", "no pre-activation weights, nobody published any"),
    ],
)
def test_published_weights_that_cannot_fit_are_refused_before_any_download(arguments, source, message, monkeypatch):
    monkeypatch.setattr("med3d_components.weights.read.hf_hub_download", None)
    network = resnet(**arguments)
    with pytest.raises(ValueError, match=message):
        load_encoder(network, source)
