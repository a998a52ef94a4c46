"""The networks of several folds as one model: it is loaded, packed, exported and run like that of one training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, load, onnx_export

from med3d_components.networks import EnsembleNet
from med3d_components.utils import write_json
from scripts.folds.ensemble import write_ensemble
from tests.bundles.test_exports import compare_onnx, ignore_torch
from tests.bundles.workflow import (
    EXPORT,
    check_export,
    copy_bundle,
    leave_model,
    read_config,
    small_training,
    unpack_model,
)

pytestmark = pytest.mark.usefixtures("narrow_resnets")

NAMES = [
    "liver_ct_coarse_segmentation",
    "liver_ct_fine_segmentation",
    "lung_nodule_ct_classification",
    "lung_segmentation",
]


def leave_folds(name: str, data: Path, folder: Path, count: int = 2, **changes: Any) -> list[Path]:
    """Return the models/ of several trainings of no epochs, one for each fold."""
    found = []
    for fold in range(count):
        torch.manual_seed(fold if name != "liver_ct_fine_segmentation" else 0)  # all have one coarse network
        bundle = copy_bundle(name, folder / f"fold_{fold}")
        options = {"folds": count, "fold": fold, **changes}
        if "spacing" in read_config(bundle, "train"):  # otherwise that of each fold's training cases
            options["spacing"] = [1.2, 1.0, 1.5]
        network = leave_model(bundle, data, **options)
        own = dict(network.state_dict())
        generator = torch.Generator().manual_seed(fold)
        for key in [key for key in own if key.endswith("bias") and not key.startswith("coarse.")]:
            own[key] = own[key] + torch.randn(own[key].shape, generator=generator) / 10
        torch.save(own, bundle / "models" / "model.pt")
        split = small_training(bundle, data, **options).get_parsed_content("datalist").split
        write_json(bundle / "models" / "split.json", split)
        found.append(bundle / "models")
    return found


def read_network(bundle: Path) -> Any:
    """Return the network of a bundle's inference with its weights."""
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    return network


@pytest.fixture(params=NAMES)
def ensemble(request: pytest.FixtureRequest, varied_data: Path, tmp_path: Path) -> Path:
    """Return a bundle with the model of two folds."""
    bundle = copy_bundle(request.param, tmp_path / "ensemble")
    write_ensemble(leave_folds(request.param, varied_data, tmp_path), bundle / "models")
    return bundle


def test_the_model_averages_those_of_the_folds_and_has_all_cases_as_trained_on(ensemble: Path, tmp_path: Path) -> None:
    network = read_network(ensemble)
    assert isinstance(network, EnsembleNet)
    members = [read_network(tmp_path / f"fold_{fold}" / ensemble.name) for fold in range(2)]
    image = torch.rand(1, 1, 24, 20, 17)
    with torch.no_grad():
        one, other = (member(image).softmax(1) for member in members)
        torch.testing.assert_close(network(image).exp(), (one + other) / 2)
        assert not torch.allclose(one, other, atol=1e-3)
        if hasattr(network, "locate"):
            assert torch.equal(network.locate(image), members[0].locate(image))
    split = json.loads((ensemble / "models" / "split.json").read_text(encoding="utf-8"))
    assert sorted(split["training"]) == [f"case_{number}" for number in range(6)]
    assert split["validation"] == {}


def test_it_is_packed_loaded_and_exported_as_any_model(
    ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = read_network(ensemble)
    unpacked = unpack_model(ensemble, tmp_path / "zip")
    loaded = load(ensemble.name, bundle_dir=str(unpacked.parent))
    image = torch.rand(1, 1, 24, 20, 17)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
    assert "of 2 networks, whose probabilities are averaged" in (unpacked / "docs" / "README.md").read_text()
    check_export(unpacked, network, monkeypatch)


@ignore_torch
def test_the_onnx_of_a_window_equals_it(ensemble: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = read_network(ensemble)
    monkeypatch.chdir(ensemble)
    arguments = {"ckpt_file": "models/model.pt", "key_in_ckpt": "", "input_shape": [1, 1, 24, 20, 17]}
    onnx_export(filepath="model.onnx", **EXPORT, **arguments)
    compare_onnx(network, (1, 1, 24, 20, 17))


def test_folds_that_differ_in_more_than_their_cases_are_refused(varied_data: Path, tmp_path: Path) -> None:
    members = leave_folds("lung_segmentation", varied_data, tmp_path)
    settings = json.loads((members[1] / "settings.json").read_text(encoding="utf-8"))
    write_json(members[1] / "settings.json", {**settings, "spacing": [2, 2, 2]})
    with pytest.raises(ValueError, match=r"was trained with another spacing than .*, so they cannot be one model"):
        write_ensemble(members, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_fold_without_its_split_is_refused(varied_data: Path, tmp_path: Path) -> None:
    members = leave_folds("lung_segmentation", varied_data, tmp_path)
    (members[1] / "split.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"split\.json does not exist, so it is not known which cases trained"):
        write_ensemble(members, tmp_path / "models")
