"""What holds for every bundle, whatever it does."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser
from packaging.requirements import Requirement

from med3d_components.utils.option_help import option_names, option_table
from med3d_components.utils.preflight import check_options
from scripts.commands.pack_bundles import vendored_package
from scripts.commands.sync_bundles import sync, with_wiring
from tests.conftest import BUNDLES, ROOT

FILES = (
    "LICENSE",
    "docs/README.md",
    "docs/data_license.txt",
    *(
        f"configs/{name}"
        for name in (
            "train.json",
            "evaluate.json",
            "inference.json",
            "multi_gpu_train.json",
            "smoke.json",
            "metadata.json",
            "logging.conf",
        )
    ),
)

each_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


def read(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return content


@each_bundle
def test_all_files_of_a_bundle_are_there(bundle: Path) -> None:
    assert [name for name in FILES if not (bundle / name).is_file()] == []


def imported_packages() -> set[str]:
    """Return the third-party packages that the packed part of the package imports, or MONAI's handlers need."""
    found = {"itk", "scipy", "skimage", "tqdm", "tensorboard", "fire"}  # MONAI, ignite and torch import these late
    for source in (content for name, content in vendored_package().items() if name.endswith(".py")):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
    extra = {"highdicom"}  # for those who want DICOM SEG
    return found - set(sys.stdlib_module_names) - {"med3d_components", "monai", "torch", "numpy"} - extra


@each_bundle
def test_metadata_names_every_package_that_is_needed(bundle: Path) -> None:
    distributions = {"skimage": "scikit-image", "ignite": "pytorch-ignite"}
    needed = {distributions.get(name, name) for name in imported_packages()}
    named = set(read(bundle / "configs" / "metadata.json")["required_packages_version"])  # type: ignore[call-overload]
    assert needed == named


@each_bundle
def test_metadata_pins_what_is_tested_with_the_oldest_python(bundle: Path) -> None:
    """The Model Zoo installs exactly these, with Python 3.10."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines())
    requirements = [Requirement(line) for line in lines if line and not line.startswith("-")]
    oldest = [each for each in requirements if not each.marker or each.marker.evaluate({"python_version": "3.10"})]
    pins = {each.name: str(each.specifier).removeprefix("==") for each in oldest}
    content = read(bundle / "configs" / "metadata.json")
    own = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    named = content["required_packages_version"] | {name: content[key] for name, key in own.items()}  # type: ignore[operator]
    assert {name: pins[name] for name in named} == named


def test_requirements_pin_every_dependency_of_the_package() -> None:
    pins = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    declared = [re.split(r"[<>=~; ]", line)[0] for line in metadata.requires("med3d-components") or []]
    assert set(declared) == set(pins)


@each_bundle
def test_overlays_change_only_ids_that_exist_or_are_their_own(bundle: Path) -> None:
    train = ConfigParser(read(bundle / "configs" / "train.json"))
    own = {"restarts", "trained", "_desc_wiring", "baseline", "reference", "evaluating", "finalize", "cases", "drawn"}
    own |= {"lesion_overlap", "mirror"}
    for name in ("evaluate", "multi_gpu_train", "smoke"):
        keys = {key for key in read(bundle / "configs" / f"{name}.json") if not key.startswith("_desc_")}
        for key in keys - own:
            parent = key.removeprefix("+").rpartition("#")[0] or key
            assert parent in train, f"{name}.json: {key}"


@each_bundle
def test_every_run_begins_with_the_check_of_its_options(bundle: Path) -> None:
    for name in ("train", "multi_gpu_train", "inference"):
        initialize = read(bundle / "configs" / f"{name}.json")["initialize"]
        assert initialize[0] == "@preflight"  # type: ignore[index]
    for name, run_id in (("train", "training"), ("evaluate", "evaluating"), ("inference", "inference")):
        assert read(bundle / "configs" / f"{name}.json")["run"] == f"%{run_id}"


@each_bundle
def test_initialize_needs_no_other_component_of_the_package(bundle: Path) -> None:
    # The preflight brings the path along, on which the package is found.
    for name in ("train", "multi_gpu_train", "inference"):
        entries: Any = read(bundle / "configs" / f"{name}.json")["initialize"]
        assert all(set(re.findall(r"@(\w+)", entry)) <= {"seed", "preflight"} for entry in entries)


@each_bundle
@pytest.mark.parametrize("name", ["train", "inference"])
def test_every_option_stands_in_the_table_with_a_default_that_it_allows_and_says_what_it_is(
    bundle: Path, name: str
) -> None:
    config = read(bundle / "configs" / f"{name}.json")
    above = [key for key in takewhile(lambda key: key != "_desc_bundle", config) if not key.startswith("_desc_")]
    options = [key for key in above if key != "bundle_root"]
    assert options == option_names(config)
    assert [key for key in options if not str(config.get(f"_desc_{key}", "")).endswith(".")] == []
    assert check_options(config) == {}


@each_bundle
def test_the_readme_tells_of_every_option_and_its_default(bundle: Path) -> None:
    readme = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    for name in ("train", "inference"):
        assert option_table(read(bundle / "configs" / f"{name}.json")) in readme


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    for bundle in BUNDLES:
        shutil.copytree(bundle, tmp_path / bundle.name, ignore=shutil.ignore_patterns("models", "eval", "checkpoints"))
    return tmp_path


def test_the_copies_in_the_bundles_equal_their_source() -> None:
    sync(check=True)


def test_a_changed_copy_is_found_and_written_anew(copies: Path) -> None:
    train = copies / BUNDLES[0].name / "configs" / "train.json"
    original = train.read_text(encoding="utf-8")
    train.write_text(original.replace('"train_handlers": "@train#handlers"', '"train_handlers": []'))
    (train.parent / "logging.conf").unlink()
    with pytest.raises(SystemExit, match=r"logging\.conf.*train\.json differ"):
        sync(check=True, bundles=str(copies))
    sync(bundles=str(copies))
    assert train.read_text(encoding="utf-8") == original
    sync(check=True, bundles=str(copies))


def test_the_wiring_takes_the_place_of_the_last_part_and_leaves_the_rest() -> None:
    config = '{\n  "a": [1,  2],\n\n  "_desc_wiring": "old",\n  "run": "%old"\n}'
    wiring = '{\n  "_desc_wiring": "new",\n  "run": "%training"\n}'
    assert with_wiring(config, wiring) == '{\n  "a": [1,  2],\n\n  "_desc_wiring": "new",\n  "run": "%training"\n}'
    with pytest.raises(ValueError, match="A config has no"):
        with_wiring('{"a": 1}', wiring)


def test_the_wiring_of_all_trainings_is_one_text() -> None:
    wirings = {
        path.read_text("utf-8").partition('"_desc_wiring"')[2] for path in ROOT.glob("bundles/*/configs/train.json")
    }
    assert len(wirings) == 1
    assert wirings.pop()
