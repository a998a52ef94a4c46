from __future__ import annotations

from pathlib import Path

import pytest
import torch

from med3d_components.networks import DilatedResNet
from med3d_components.weights import load_encoder
from med3d_components.weights.overlap import describe_overlap


def load(path: Path, **settings):
    network = DilatedResNet(10)
    content = {"state_dict": network.state_dict(), "settings": settings} if settings else network.state_dict()
    torch.save(content, path)
    return load_encoder(network, str(path))


@pytest.mark.parametrize(
    ("name", "dataset", "seen"),
    [
        ("resnet_10.pth", "LiTS", "Task03_Liver"),
        ("resnet_10.pth", "Task09_Spleen", "Task09_Spleen"),
        ("resnet_10.pth", "LIDC-IDRI", None),
        ("resnet_10.pth", "VISCERAL_Anatomy3", None),
        ("mine.pt", "Task09_Spleen", None),
    ],
)
def test_a_published_file_is_known_by_its_name(tmp_path, name, dataset, seen):
    text = describe_overlap(load(tmp_path / name), dataset)
    assert (text is None) == (seen is None)
    assert seen is None or f"({seen})" in text


def test_the_file_states_what_it_was_trained_on(tmp_path):
    report = load(tmp_path / "encoder.pt", trained_on=["LUNA16", "Task09_Spleen"])
    assert "(LUNA16)" in describe_overlap(report, "LIDC nodule cubes")
    assert describe_overlap(report, "Task04_Hippocampus") is None


def test_unpublished_training_data_can_be_any(tmp_path):
    text = describe_overlap(load(tmp_path / "resnet_10_23dataset.pth"), "Anything")
    assert "are not published: Anything may be one of them" in text
