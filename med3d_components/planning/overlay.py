"""Read a plan as options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from med3d_components.utils.options import has_expression

__all__ = ["read_plan"]


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
