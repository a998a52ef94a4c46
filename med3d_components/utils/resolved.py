"""The values that the options of a run have when all defaults and expressions are resolved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from med3d_components.utils.option_help import option_names

__all__ = ["resolved_options"]


def resolved_options(config: ConfigParser) -> dict[str, Any]:
    """Return the options of a config as values of JSON, in the order of the config.

    Args:
        config: as a workflow has read it, with what was typed; nothing but its options is resolved.

    Example:
        >>> resolved_options(ConfigParser({"epochs": 3, "seed": 1, "split_seed": "@seed", "other": "$1 / 0"}))
        {'epochs': 3, 'seed': 1, 'split_seed': 1}
    """
    return {name: _plain(config.get_parsed_content(name)) for name in option_names(config.get())}


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it: a list for a tuple, text for a path or a device."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.as_posix() if isinstance(value, Path) else str(value)
