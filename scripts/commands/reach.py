"""Which modules of the package a name reaches: through configs, imports, and what these import in turn."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

__all__ = ["find_imported", "find_used", "names_in", "names_in_python"]

PACKAGE = Path(__file__).parents[2] / "med3d_components"
NAME = re.compile(r"\bmed3d_components(?:\.\w+)+")


def names_in(text: str) -> set[str]:
    """Return the dotted names of the package in a text, as configs and strings have them.

    Example:
        >>> names_in('{"_target_": "med3d_components.networks.Med3DNet"}')
        {'med3d_components.networks.Med3DNet'}
    """
    return set(NAME.findall(text))


def find_used(names: Iterable[str], package: Path = PACKAGE) -> dict[str, Path]:
    """Return the modules whose own content the names use, themselves or through others.

    A package that only hands a name on is not used: ``from med3d_components.networks import Med3DNet`` uses the module
    of the class.

    Args:
        names: dotted names of modules, or of what they define.
        package: folder of the package.
    """
    return _follow(names, package, whole=False)


def find_imported(names: Iterable[str], package: Path = PACKAGE) -> dict[str, Path]:
    """Return the modules that Python loads with the names: also the packages above them and all that these import.

    Args:
        names: dotted names of modules, or of what they define.
        package: folder of the package.
    """
    return _follow(names, package, whole=True)


def names_in_python(source: str) -> set[str]:
    """Return the dotted names of the package that a source imports, or has in its strings other than docstrings.

    Example:
        >>> names_in_python("from med3d_components.networks import Med3DNet")
        {'med3d_components.networks.Med3DNet'}
    """
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, documented)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings]
    named = set().union(*(names_in(text) for text in texts if isinstance(text, str)))
    return {origin for _, origin in _imports(tree)} | named


def _follow(names: Iterable[str], package: Path, whole: bool) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        modules = {_home(name, package)}
        if whole:
            parts = name.split(".")
            modules |= {".".join(parts[: i + 1]) for i in range(len(parts))}
        for module in modules - set(found):
            path = _path(module, package)
            if path:
                found[module] = path
                waiting |= names_in_python(path.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


@cache
def _home(name: str, package: Path) -> str:
    """Return the module that defines a name; an empty text if there is none."""
    if not name or _path(name, package):
        return name
    module, _, last = name.rpartition(".")
    path = _path(module, package)
    if path:
        origins = dict(_imports(ast.parse(path.read_text(encoding="utf-8"))))
        if last in origins:
            return _home(origins[last], package)
    return _home(module, package)


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each name of the package that a source imports: what it calls it, and the dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names if NAME.fullmatch(alias.name))


def _path(module: str, package: Path) -> Path | None:
    place = package.parent.joinpath(*module.split("."))
    paths = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in paths if module and path.is_file()), None)
