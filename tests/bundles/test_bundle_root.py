"""Where a bundle looks for its files and writes, whoever asks, and in whatever order."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

from tests.bundles.workflow import copy_bundle, source_of
from tests.conftest import BUNDLES

KINDS = {"train": "train", "inference": "infer"}
CASES = [(bundle.name, config) for bundle in BUNDLES for config in KINDS]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is the current one."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def workflow(config: Path, bundle: Path, data: Path, **changes: str) -> ConfigWorkflow:
    source = str(source_of(bundle, data, config.stem))
    return ConfigWorkflow(
        str(config), workflow_type=KINDS[config.stem], logging_file=False, dataset_dir=source, **changes
    )


@pytest.mark.parametrize(("name", "config"), CASES)
def test_after_initialize_a_bundle_is_where_its_configs_are_whoever_asked_before(
    name: str, config: str, varied_data: Path, tmp_path: Path, elsewhere: Path
) -> None:
    bundle = copy_bundle(name, tmp_path)
    run = workflow(bundle / "configs" / f"{config}.json", bundle, varied_data)
    run.parser.get_parsed_content("ckpt_dir")  # of a caller that is no workflow, and says nothing to the run
    run.initialize()
    assert run.parser.get_parsed_content("ckpt_dir") == str(bundle / "models")
    assert run.parser.get_parsed_content("output_dir").startswith(str(bundle / "eval"))
    assert not [*elsewhere.iterdir()]


@pytest.mark.parametrize(("name", "config"), CASES)
def test_it_is_absolute_where_the_path_of_the_config_is_not(
    name: str, config: str, varied_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_bundle(name, tmp_path)
    for folder, path in ((bundle, Path("configs")), (bundle / "configs", Path()), (tmp_path, Path(name, "configs"))):
        monkeypatch.chdir(folder)
        run = workflow(path / f"{config}.json", bundle, varied_data)
        run.initialize()
        assert run.parser.get_parsed_content("bundle_root") == str(bundle)


@pytest.mark.parametrize(("name", "config"), CASES)
def test_a_copied_config_has_its_own_folder_and_a_given_one_is_taken(
    name: str, config: str, varied_data: Path, tmp_path: Path, elsewhere: Path
) -> None:
    bundle = copy_bundle(name, tmp_path)
    copied = tmp_path / "experiments" / f"{config}.json"
    copied.parent.mkdir()
    shutil.copy(bundle / "configs" / f"{config}.json", copied)
    run = workflow(copied, bundle, varied_data)
    run.initialize()
    assert run.parser.get_parsed_content("ckpt_dir") == str(copied.parent / "models")
    run = workflow(copied, bundle, varied_data, bundle_root="given")
    assert run.parser.get_parsed_content("ckpt_dir") == "given/models"
    run.initialize()
    assert run.parser.get_parsed_content("ckpt_dir") == "given/models"


@pytest.mark.parametrize(("name", "config"), CASES)
def test_without_a_workflow_it_is_the_current_folder(name: str, config: str, elsewhere: Path) -> None:
    (bundle,) = (path for path in BUNDLES if path.name == name)
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / f"{config}.json"))
    assert parser.get_parsed_content("ckpt_dir") == str(elsewhere / "models")
