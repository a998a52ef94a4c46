"""Product and workshop: what the package holds is used, and it needs nothing of what is around it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from scripts.commands.pack_bundles import vendored_package
from scripts.commands.reach import find_used, names_in, names_in_python
from tests.conftest import ROOT

PACKAGE = ROOT / "med3d_components"
COMMAND_LINES = ("med3d_components/__main__.py",)


def modules(package: Path) -> set[str]:
    """Return the modules of a package that hold more than what they hand on."""
    paths = [path for path in package.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    return {".".join(path.relative_to(package.parent).with_suffix("").parts) for path in paths}


def roots() -> set[str]:
    """Return the names that configs, the app, the commands, and the examples of documents have."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "apps").rglob("*.py")]
    sources += [(ROOT / path).read_text(encoding="utf-8") for path in COMMAND_LINES]
    for document in (ROOT / "README.md", *ROOT.glob("bundles/*/docs/README.md")):
        sources += re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    return config_names() | set().union(*map(names_in_python, sources))


def config_names() -> set[str]:
    return set().union(*(names_in(path.read_text("utf-8")) for path in ROOT.glob("bundles/*/configs/*")))


def test_each_module_of_the_package_is_used_by_a_bundle_the_app_a_command_or_an_example() -> None:
    assert sorted(modules(PACKAGE) - set(find_used(roots()))) == []


def test_an_orphan_is_found_though_its_package_hands_it_on(tmp_path: Path) -> None:
    package = tmp_path / "med3d_components"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "transforms" / "orphan.py").write_text("class Orphan: ...\n")
    with (package / "transforms" / "__init__.py").open("a") as file:
        file.write("from med3d_components.transforms.orphan import Orphan\n")
    assert modules(package) - set(find_used(roots(), package)) == {"med3d_components.transforms.orphan"}


def test_the_package_imports_nothing_of_the_workshop() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(from|import) (scripts|tests|apps)\b", path.read_text("utf-8"), re.MULTILINE), path


def test_a_zip_holds_what_bundles_load_and_no_imports_of_data() -> None:
    packed = {name.removesuffix(".py").replace("/", ".") for name in vendored_package() if name.endswith(".py")}
    beside = packed - set(find_used(config_names()))
    assert {name.rpartition(".")[2] for name in beside} == {"__init__"}
    assert not [name for name in packed if ".prepare" in name or ".commands" in name]
