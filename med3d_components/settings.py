"""What training decided and inference needs to know, as a JSON file next to the weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["read_settings"]


def read_settings(
    path: str | os.PathLike[str],
    default: Mapping[str, Any] | None = None,
    option: str = "ckpt_dir",
    part: str = "",
) -> dict[str, Any]:
    """Read the settings that a training wrote next to its model.

    Args:
        path: of ``settings.json``.
        default: taken when there is no such file, so that a config can be parsed before anything was trained.
        option: of the command line that names another model, for the error.
        part: entry that holds the settings of a part of the network, which are returned where it is.

    Returns:
        The settings. To ask for an entry that the file lacks is a ValueError that names both.

    Raises:
        FileNotFoundError: if there is no such file and no default, or it lies in ``models/`` there.
        ValueError: if the file is not JSON, was written by version 0.1, or lacks an entry of the default.

    Example:
        >>> read_settings("models/settings.json", default={"depth": 50})
        {'depth': 50}
    """
    path = Path(path)
    if not path.is_file():
        inner = path.parent / "models" / path.name
        if inner.is_file():
            raise FileNotFoundError(f"{path} does not exist, but {inner} does; give --{option} {inner.parent}.")
        if default is None:
            raise FileNotFoundError(f"{path} does not exist; train first, or name a trained model by --{option}.")
        return dict(default)
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        raise ValueError(f"{path} is not valid JSON ({e}); restore it, it belongs to model.pt beside it.") from e
    if not isinstance(settings, dict) or "network" not in settings:
        raise ValueError(
            f"{path} was written by version 0.1, which this version cannot read; use that one, or train again."
        )
    if missing := [name for name in ("bundle", *(default or ())) if name not in settings]:
        raise ValueError(f"{path} lacks {', '.join(missing)}; restore it, it belongs to model.pt beside it.")
    return _Settings(path, settings.get(part, settings))


class _Settings(dict[str, Any]):
    """Entries of a file, which is named where one is missing: a config asks for some only when it evaluates."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.path = path

    def __missing__(self, name: str) -> Any:
        raise ValueError(f"{self.path} lacks {name}; restore it, it belongs to model.pt beside it.")
