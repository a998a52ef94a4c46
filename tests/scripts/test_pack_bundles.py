from __future__ import annotations

import getpass
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import download

from med3d_components import __version__
from med3d_components.networks import DilatedResNet, Med3DSegmentationNet
from med3d_components.records import read_record
from med3d_components.utils import write_json
from med3d_components.utils.files import file_digest
from scripts.commands.pack_bundles import pack_bundle, pack_bundles
from tests.conftest import BUNDLES, ROOT
from tests.records.samples import sample_record

WIDTHS = [[16, 8], [8, 8], [8, 8]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return weights of a lung segmentation with three classes, as a training leaves them."""
    path = tmp_path / "models" / "model.pt"
    path.parent.mkdir()
    torch.save(Med3DSegmentationNet(3, 10, WIDTHS).state_dict(), path)
    network = {"task": "segmentation", "num_classes": 3, **DilatedResNet(10).settings, "widths": WIDTHS}
    settings = {"bundle": "lung_segmentation", "network": network}
    own = {"trained_on": ["Kidneys"], "classes": ["background", "left", "right"], "spacing": [1, 1, 2]}
    write_json(path.with_name("settings.json"), {**settings, **own})
    return path


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    pack_bundles(out=str(out))
    return out


def test_every_bundle_becomes_a_small_zip_of_its_own_folder(packed: Path) -> None:
    assert {path.name for path in packed.iterdir()} == {f"{bundle.name}_v{__version__}.zip" for bundle in BUNDLES}
    for path in packed.iterdir():
        assert path.stat().st_size < 1e6
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
        assert entries == sorted(entries)
        assert {entry.split("/")[0] for entry in entries} == {path.name.partition("_v")[0]}
        inside = {entry.partition("/")[2] for entry in entries}
        assert {"LICENSE", "configs/train.json", "docs/README.md", "med3d_components/settings.py"} <= inside
        assert not [entry for entry in inside if re.search(r"models/|eval/|checkpoints/|__pycache__|\.pyc", entry)]


def test_two_packings_are_equal_byte_by_byte(packed: Path, tmp_path: Path) -> None:
    pack_bundles("lung_segmentation", out=str(tmp_path))
    name = f"lung_segmentation_v{__version__}.zip"
    assert (tmp_path / name).read_bytes() == (packed / name).read_bytes()


def test_the_package_inside_is_the_package_and_its_note_says_so(packed: Path) -> None:
    whole = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "med3d_components").rglob("*.py")}
    workshop = ("/planning/", "/prepare/", "/report/", "/commands/", "/__main__.py")
    source = {name: path for name, path in whole.items() if not any(part in name for part in workshop)}
    with zipfile.ZipFile(packed / f"genesis_pretraining_v{__version__}.zip") as archive:
        prefix = "genesis_pretraining/"
        found = {name.removeprefix(prefix) for name in archive.namelist() if name.endswith(".py")}
        assert found == set(source)
        assert all(archive.read(prefix + name) == path.read_bytes() for name, path in source.items())
        note = json.loads(archive.read(f"{prefix}med3d_components/_vendored.json"))
    lines = (f"{name} {hashlib.sha256(source[name].read_bytes()).hexdigest()}\n" for name in sorted(source))
    assert note == {"version": __version__, "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}


def test_the_commands_of_a_packed_readme_start_where_the_zip_is_unpacked(packed: Path) -> None:
    with zipfile.ZipFile(packed / f"lung_segmentation_v{__version__}.zip") as archive:
        readme = archive.read("lung_segmentation/docs/README.md").decode()
    assert "--config_file lung_segmentation/configs/train.json" in readme
    assert "bundles/" not in readme


def test_a_zip_with_weights_says_in_its_configs_what_they_are(model: Path, tmp_path: Path) -> None:
    path = pack_bundle(ROOT / "bundles" / "lung_segmentation", tmp_path, model)
    assert path.name == f"lung_segmentation_v{__version__}_model.zip"
    with zipfile.ZipFile(path) as archive:
        inside = {name: archive.read(f"lung_segmentation/{name}") for name in ("models/model.pt", "LICENSE")}
        inference, metadata, settings = (
            json.loads(archive.read(f"lung_segmentation/{name}.json"))
            for name in ("configs/inference", "configs/metadata", "models/settings")
        )
    assert inside["models/model.pt"] == model.read_bytes()
    assert inference["settings"]["default"] == settings == json.loads(model.with_name("settings.json").read_text())
    assert metadata["data_source"] == "Kidneys"
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert (pred["num_channels"], pred["channel_def"]) == (3, {"0": "background", "1": "left", "2": "right"})


def leave_record(model: Path, **changes: Any) -> None:
    """Write the record and the split of a training beside its model."""
    record = sample_record(files={"model.pt": file_digest(model)}, **changes)
    write_json(model.with_name("run.json"), record)
    split = {"training": {"Smith_1": "3fa9", "Kidneys/Smith_2": "71c0"}, "validation": {"Jones": "9d2e"}}
    split |= {"ancestors": {"lungs": {"Miller": "5b11"}}}
    write_json(model.with_name("split.json"), {"trained_on": ["Kidneys"], **split})


def test_the_record_travels_without_host_user_path_and_case(model: Path, tmp_path: Path) -> None:
    data = str(tmp_path / "Kidneys")
    options = {**sample_record()["options"], "dataset_dir": data, "run_dir": str(tmp_path)}
    command = [sys.executable, "-m", "monai.bundle", "run", "--dataset_dir", data]
    (part,) = sample_record()["parts"]
    leave_record(model, options=options, command=command, parts=[{**part, "host": "workstation7"}])
    path = pack_bundle(ROOT / "bundles" / "lung_segmentation", tmp_path, model)
    told = ("models/run.json", "models/split.json", "docs/README.md", "models/settings.json")
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(f"lung_segmentation/{name}").decode() for name in told}
        archive.extractall(tmp_path / "unpacked")
    for word in ("workstation7", getpass.getuser(), str(tmp_path), "/tmp", "/home", "Smith", "Jones", "Miller"):
        assert not [name for name, text in texts.items() if re.search(rf"{re.escape(word)}\b", text)], word
    record = read_record(tmp_path / "unpacked" / "lung_segmentation" / "models" / "run.json")
    assert record["scores"] == sample_record()["scores"]
    split = json.loads(texts["models/split.json"])
    assert split["trained_on"] == ["Kidneys"]
    assert split["training"] == {"3fa9": "3fa9", "Kidneys/71c0": "71c0"}
    assert "val_mean_dice 0.7500 on 1 validation case," in texts["docs/README.md"]
    assert "comes without weights" not in texts["docs/README.md"]


def test_a_zip_with_a_record_is_equal_byte_by_byte(model: Path, tmp_path: Path) -> None:
    leave_record(model)
    first, second = (pack_bundle(ROOT / "bundles" / "lung_segmentation", tmp_path / name, model) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_weights_without_a_record_are_packed_with_a_card_that_says_so(model: Path, tmp_path: Path) -> None:
    path = pack_bundle(ROOT / "bundles" / "lung_segmentation", tmp_path, model)
    with zipfile.ZipFile(path) as archive:
        assert "lung_segmentation/models/run.json" not in archive.namelist()
        assert "The score is unknown" in archive.read("lung_segmentation/docs/README.md").decode()


def test_a_record_of_other_weights_is_not_packed(model: Path, tmp_path: Path) -> None:
    bundle = ROOT / "bundles" / "lung_segmentation"
    write_json(model.with_name("run.json"), sample_record(files={"model.pt": "0" * 64}))
    with pytest.raises(ValueError, match=r"run\.json is not of .*model\.pt, but of other weights; move it away"):
        pack_bundle(bundle, tmp_path, model)
    write_json(model.with_name("run.json"), sample_record(bundle={"name": "other", "version": "1"}))
    with pytest.raises(ValueError, match=r"run\.json is of a training of other; move it away from model\.pt"):
        pack_bundle(bundle, tmp_path, model)
    assert list(tmp_path.glob("*.zip")) == []


@pytest.mark.filterwarnings("ignore:No hash value provided")  # MONAI's command takes none
def test_monai_downloads_a_zip_by_its_address(packed: Path, tmp_path: Path) -> None:
    path = packed / f"lung_segmentation_v{__version__}.zip"
    download(name="lung_segmentation", bundle_dir=str(tmp_path), url=path.as_uri(), progress=False)
    assert (tmp_path / "lung_segmentation" / "configs" / "train.json").is_file()


def test_what_cannot_be_packed_is_refused_in_one_line(model: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no bundle lungs; there are genesis_pretraining, .*"):
        pack_bundles("lungs")
    with pytest.raises(ValueError, match="--weights belong to one bundle: put its name first"):
        pack_bundles(weights=str(model))
    with pytest.raises(FileNotFoundError, match=r"nothing.pt does not exist; name the models/model.pt of a training"):
        pack_bundles("lung_segmentation", str(tmp_path / "nothing.pt"), str(tmp_path))
    with pytest.raises(ValueError, match=r"is of a training of lung_segmentation; pack it with that name"):
        pack_bundles("genesis_pretraining", str(model), str(tmp_path))
    torch.save(Med3DSegmentationNet(2, 10, WIDTHS).state_dict(), model)
    with pytest.raises(ValueError, match="does not fit lung_segmentation with the settings beside it"):
        pack_bundles("lung_segmentation", str(model), str(tmp_path))
    model.write_bytes(b"broken")
    with pytest.raises(ValueError, match="does not fit lung_segmentation with the settings beside it"):
        pack_bundles("lung_segmentation", str(model), str(tmp_path))
    assert list(tmp_path.glob("*.zip")) == []
