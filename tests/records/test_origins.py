from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from med3d_components.data import SegmentationDatalist
from med3d_components.networks import DilatedResNet
from med3d_components.records import data_licences, describe_data, describe_weights
from med3d_components.utils import write_json
from med3d_components.utils.files import file_digest
from med3d_components.weights import load_encoder
from tests.conftest import MakeDomain
from tests.records.samples import sample_record


def describe(folder: Path, name: str = "Kidneys") -> dict[str, Any]:
    return describe_data(SegmentationDatalist(folder), folder, [name])


def test_a_copy_of_a_folder_is_the_same_data(make_domain: MakeDomain, tmp_path: Path) -> None:
    folder = make_domain(tmp_path / "Kidneys")
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "Kidneys"))
    assert describe(folder) == describe(copy)


def test_another_header_is_other_data_without_a_look_at_voxels(make_domain: MakeDomain, tmp_path: Path) -> None:
    folder = make_domain(tmp_path / "Kidneys")
    before = describe(folder)
    path = folder / "imagesTr" / "case_0.nii.gz"
    image = nib.load(path)
    moved = image.affine + np.diag([0, 0, 0, 0.0])
    moved[0, 3] = 0.01
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), path)
    after = describe(folder)
    assert before["listing"] != after["listing"]
    assert before["sets"] == after["sets"]


def test_the_licence_of_data_is_that_of_their_dataset_json(make_domain: MakeDomain, tmp_path: Path) -> None:
    folder = make_domain(tmp_path / "Kidneys")
    content = json.loads((folder / "dataset.json").read_text())
    assert describe(folder)["sets"][0]["licence"] is None
    write_json(folder / "dataset.json", {**content, "licence": "CC-BY-SA 4.0"})
    (found,) = describe(folder)["sets"]
    assert found == {
        "name": "Kidneys",
        "licence": "CC-BY-SA 4.0",
        "dataset_json": file_digest(folder / "dataset.json"),
    }


def leave_encoder(run: Path, **record: Any) -> Path:
    """Write an encoder.pt with the record of its training, as one leaves them."""
    encoder = DilatedResNet(10)
    path = run / "checkpoints" / "encoder.pt"
    path.parent.mkdir(parents=True)
    settings = {**encoder.settings, "bundle": "med3d_pretraining", "trained_on": ["Kidneys"]}
    torch.save({"state_dict": encoder.state_dict(), "settings": settings}, path)
    write_json(run / "models" / "run.json", sample_record(files={"encoder.pt": file_digest(path)}, **record))
    return path


def test_the_chain_of_trainings_is_carried_along(tmp_path: Path) -> None:
    path = leave_encoder(tmp_path / "first")
    report = load_encoder(DilatedResNet(10), str(path))
    first = describe_weights("pretrained_weights", str(path), report.path, report)
    assert (first["training_sets"], first["licence"]) == (["Kidneys"], "CC0 1.0")
    path = leave_encoder(tmp_path / "second", weights=[first])
    second = describe_weights("pretrained_weights", str(path), path, load_encoder(DilatedResNet(10), str(path)))
    (earlier,) = second["record"]["weights"]
    assert earlier["sha256"] == first["sha256"]
    assert earlier["record"]["data"]["sets"][0]["name"] == "Kidneys"
    assert data_licences(second["record"]) == ["CC0 1.0"]


def test_a_record_of_other_weights_is_not_taken(tmp_path: Path) -> None:
    path = leave_encoder(tmp_path)
    encoder = DilatedResNet(10)
    torch.save({"state_dict": encoder.state_dict(), "settings": encoder.settings}, path)
    found = describe_weights("pretrained_weights", str(path), path, load_encoder(DilatedResNet(10), str(path)))
    assert (found["record"], found["training_sets"]) == (None, None)


def test_published_weights_have_the_licence_of_their_card(tmp_path: Path) -> None:
    torch.save(DilatedResNet(10).state_dict(), tmp_path / "resnet_10.pth")
    source = str(tmp_path / "resnet_10.pth")
    report = load_encoder(DilatedResNet(10), source)
    found = describe_weights("pretrained_weights", source, report.path, report)
    assert found["licence"] == "MIT"
    assert "Task09_Spleen" in found["training_sets"]
