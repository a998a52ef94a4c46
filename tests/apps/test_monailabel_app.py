"""The script that writes the app, and what of the app needs no MONAI Label."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from med3d_components.utils import write_json
from scripts.commands.monailabel_app import find_zips, write_app
from tests.conftest import ROOT


def write_zip(folder: Path, name: str, sha256: str = "a", top: str | None = None, models: bool = False) -> Path:
    """Write the zip of a bundle with little in it."""
    folder.mkdir(exist_ok=True)
    bundle = name.partition("_v")[0]
    files = {"configs/metadata.json": "{}", "med3d_components/_vendored.json": json.dumps({"sha256": sha256})}
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        for path, content in {**files, **({"models/model.pt": "weights"} if models else {})}.items():
            archive.writestr(f"{top or bundle}/{path}", content)
    return folder / f"{name}.zip"


def load(name: str) -> ModuleType:
    """Import a module of the app by its path, as nothing but a server has it on its own."""
    spec = importlib.util.spec_from_file_location(f"app_{name}", ROOT / "apps" / "monailabel" / "lib" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_app_holds_its_source_and_every_bundle_with_weights_where_there_are_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_zip(tmp_path / "dist", "kidney_segmentation_v0.1.0")
    write_zip(tmp_path / "dist", "kidney_segmentation_v0.1.0_model", models=True)
    write_zip(tmp_path / "dist", "nodule_classification_v0.2.0")
    (tmp_path / "dist" / "something_else.zip").write_text("ignored")
    write_app(str(tmp_path / "new" / "app"), str(tmp_path / "dist"))
    app = tmp_path / "new" / "app"
    assert {"main.py", "requirements.txt", "README.md", "lib", "model"} == {path.name for path in app.iterdir()}
    assert (app / "model" / "kidney_segmentation" / "models" / "model.pt").read_text(encoding="utf-8") == "weights"
    assert (app / "model" / "nodule_classification" / "configs" / "metadata.json").is_file()
    printed = capsys.readouterr().out
    assert "nodule_classification_v0.2.0.zip, without weights, so it must be trained first\n" in printed
    assert f"monailabel start_server --app {app}" in printed
    assert [path.name for path in app.parent.iterdir()] == ["app"]  # no rest of the writing


def test_an_app_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    write_zip(tmp_path / "dist", "kidney_segmentation_v0.1.0")
    (tmp_path / "app").mkdir()
    with pytest.raises(FileExistsError, match=r"app is there already.*name another folder"):
        write_app(str(tmp_path / "app"), str(tmp_path / "dist"))
    assert list((tmp_path / "app").iterdir()) == []


def test_without_zips_the_line_names_the_script_that_writes_some(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no packed bundle.*scripts/pack_bundles\.py"):
        find_zips(tmp_path)


def test_zips_that_do_not_go_together_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    write_zip(tmp_path / "two", "kidney_segmentation_v0.1.0")
    write_zip(tmp_path / "two", "kidney_segmentation_v0.2.0")
    with pytest.raises(ValueError, match=r"kidney_segmentation in the versions 0\.1\.0, 0\.2\.0"):
        find_zips(tmp_path / "two")
    write_zip(tmp_path / "mixed", "kidney_segmentation_v0.1.0", "a")
    write_zip(tmp_path / "mixed", "spleen_segmentation_v0.1.0", "b")
    with pytest.raises(ValueError, match=r"spleen_segmentation and kidney_segmentation were packed from different"):
        write_app(str(tmp_path / "app"), str(tmp_path / "mixed"))
    assert not (tmp_path / "app").exists()


@pytest.mark.parametrize("top", ["other_name", "..", "kidney_segmentation/../.."])
def test_a_zip_whose_files_lie_elsewhere_is_refused(tmp_path: Path, top: str) -> None:
    write_zip(tmp_path / "dist", "kidney_segmentation_v0.1.0", top=top)
    with pytest.raises(ValueError, match="is not a zip of kidney_segmentation"):
        write_app(str(tmp_path / "app"), str(tmp_path / "dist"))


def test_a_damaged_or_empty_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "dist", "kidney_segmentation_v0.1.0")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"v0\.1\.0\.zip is damaged"):
        write_app(str(tmp_path / "app"), str(tmp_path / "dist"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kidney_segmentation/LICENSE", "")
    with pytest.raises(ValueError, match=r"has no configs/metadata\.json"):
        write_app(str(tmp_path / "app"), str(tmp_path / "dist"))


def test_the_command_line_ends_a_mistake_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "monailabel_app.py"), "--out", str(tmp_path / "app")]
    done = subprocess.run([*command, "--zips", str(tmp_path)], capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: .* holds no packed bundle; write some with scripts/pack_bundles.py\.\n", done.stderr)


def test_the_server_finds_bundles_by_the_task_in_their_names_and_names_them_in_its_line(tmp_path: Path) -> None:
    find_bundles = load("bundles").find_bundles
    with pytest.raises(FileNotFoundError, match="holds no bundle"):
        find_bundles(tmp_path)
    for name in ("kidney_segmentation", "nodule_classification", "med3d_pretraining"):
        write_json(tmp_path / name / "configs" / "metadata.json", {})
    assert list(find_bundles(tmp_path)) == ["kidney_segmentation", "nodule_classification"]
    assert list(find_bundles(tmp_path, " nodule_classification,")) == ["nodule_classification"]
    line = "there is no kidney, liver; this app has kidney_segmentation, nodule_classification"
    with pytest.raises(ValueError, match=line):
        find_bundles(tmp_path, "kidney,liver,nodule_classification")


def test_classes_are_those_of_the_weights_or_else_of_the_metadata(tmp_path: Path) -> None:
    bundles = load("bundles")
    described = {"channel_def": {"1": "lung", "0": "background"}}
    write_json(tmp_path / "configs" / "metadata.json", {"network_data_format": {"outputs": {"pred": described}}})
    assert bundles.class_names(tmp_path) == ["background", "lung"]
    write_json(tmp_path / "models" / "settings.json", {"classes": ["background", "kidney"]})
    assert bundles.class_names(tmp_path) == ["background", "lung"]  # settings alone are no weights
    (tmp_path / "models" / "model.pt").touch()
    assert bundles.class_names(tmp_path) == ["background", "kidney"]


@pytest.mark.parametrize("name", ["lung_segmentation", "liver_ct_coarse_segmentation", "liver_ct_fine_segmentation"])
def test_a_further_training_takes_what_the_weights_decided_from_every_bundle(name: str, tmp_path: Path) -> None:
    overlay = ROOT / "bundles" / name / "configs" / "evaluate.json"
    write_json(tmp_path / "configs" / "evaluate.json", json.loads(overlay.read_text(encoding="utf-8")))
    train = json.loads(overlay.with_name("train.json").read_text(encoding="utf-8"))
    settings = {key: f"value of {key}" for key in train["settings"]} | {"network": {"in_channels": 2}}
    write_json(tmp_path / "models" / "settings.json", settings)
    options = load("bundles").trained_options(tmp_path)
    assert (options["network_settings"], options["in_channels"]) == ({"in_channels": 2}, 2)
    assert set(options) <= set(train)  # all of them are ids of the training
    if name == "liver_ct_fine_segmentation":
        assert options["coarse_checkpoint"] is None  # the coarse network is part of the weights


def test_channels_are_those_of_the_weights(tmp_path: Path) -> None:
    names = load("bundles").channel_names
    assert names(tmp_path) == []
    write_json(tmp_path / "models" / "settings.json", {"channel_names": ["T1", "T2"]})
    (tmp_path / "models" / "model.pt").touch()
    assert names(tmp_path) == ["T1", "T2"]


def test_better_networks_are_served_and_the_ones_before_the_training_are_kept(tmp_path: Path) -> None:
    trained, served = tmp_path / "training" / "models", tmp_path / "models"
    for folder in (trained, served):
        folder.mkdir(parents=True)
    (served / "model.pt").write_text("first")
    publish = load("publish").Publish(str(trained), str(served))
    publish.publish()  # no network yet
    assert (served / "model.pt").read_text(encoding="utf-8") == "first"
    for content in ("better", "best"):
        (trained / "model.pt").write_text(content)
        (trained / "settings.json").write_text(content)
        publish.publish()
        publish.publish()
        assert (served / "model.pt").read_text(encoding="utf-8") == content
        assert (served / "settings.json").read_text(encoding="utf-8") == content
    kept = served / "previous"
    assert [path.relative_to(kept).as_posix() for path in kept.rglob("*.pt")] == ["1/model.pt"]
    assert (kept / "1" / "model.pt").read_text(encoding="utf-8") == "first"
