"""The file of a plan: one option a line, to be read and edited."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from med3d_components.utils import atomic_path
from med3d_components.utils.options import has_expression

__all__ = ["check_free", "read_plan", "write_plan"]


def read_plan(path: str | Path) -> dict[str, Any]:
    """Return the options that a plan holds, as they would be typed; null is a text, since None means the default.

    Args:
        path: of the plan, perhaps edited.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON, or holds what MONAI would evaluate.

    Example:
        >>> _ = Path("plan.json").write_text('{"_desc_depth": "Small.", "depth": 10, "cache_dir": null}')
        >>> read_plan("plan.json")
        {'depth': 10, 'cache_dir': 'null'}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; python -m med3d_components plan writes a plan.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); mend it, or make a new plan.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no plan, which is a JSON object of options; make a new one.")
    options = {name: value for name, value in content.items() if not name.startswith("_")}
    for name, value in options.items():
        if has_expression(value):
            raise ValueError(f"{path}: {name} is {value!r}, which MONAI would evaluate; name a value.")
    return {name: "null" if value is None else value for name, value in options.items()}


def write_plan(path: str | Path, overlay: Mapping[str, Any]) -> None:
    """Write a plan as JSON, each entry in a line of its own, atomically.

    Args:
        path: of a file that is not there.
        overlay: of :func:`make_plan`.

    Raises:
        FileExistsError: if the file is there.

    Example:
        >>> write_plan("plan.json", {"strides": [[2, 2, 1]] * 3, "depth": 10})
        >>> print(Path("plan.json").read_text())
        {
            "strides": [[2, 2, 1], [2, 2, 1], [2, 2, 1]],
            "depth": 10
        }
    """
    check_free(path)
    lines = (f"    {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in overlay.items())
    with atomic_path(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def check_free(path: str | Path) -> None:
    """Refuse a file that is there, or that MONAI would not take for a config.

    Args:
        path: to write.

    Raises:
        FileExistsError: if the file is there.
        ValueError: if its name does not end in ``.json``.
    """
    if Path(path).suffix != ".json":
        raise ValueError(f"out is {path}, but must end in .json, by which MONAI knows a config.")
    if Path(path).exists():
        raise FileExistsError(f"{path} is there already and stays as it is; remove it, or name another --out.")
