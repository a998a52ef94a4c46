"""What a config says: the values of its options when all is resolved, and whether it is another one beyond them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from med3d_components.utils.option_help import option_names
from med3d_components.utils.options import OPTIONS

__all__ = ["changed_ids", "digest_config", "resolved_options"]


def resolved_options(config: ConfigParser) -> dict[str, Any]:
    """Return the options of a config as values of JSON, in the order of the config.

    Args:
        config: as a workflow has read it, with what was typed; nothing but its options is resolved.

    Example:
        >>> resolved_options(ConfigParser({"epochs": 3, "seed": 1, "split_seed": "@seed", "other": "$1 / 0"}))
        {'epochs': 3, 'seed': 1, 'split_seed': 1}
    """
    return {name: _plain(config.get_parsed_content(name)) for name in option_names(config.get())}


def digest_config(config: ConfigParser) -> dict[str, str]:
    """Return a digest of each id at the top of a config but options, unresolved, with what was typed.

    Args:
        config: as a workflow has read it.

    Example:
        >>> digest_config(ConfigParser({"epochs": 3, "_desc_loss": "Ours.", "loss": {"_target_": "DiceLoss"}}))
        {'loss': 'c3da044dfc7179c4'}
    """
    own = {
        name: value
        for name, value in config.get().items()
        if name not in OPTIONS and name != "bundle_root" and not name.startswith("_")
    }
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()[:16]
        for name, value in own.items()
    }


def changed_ids(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the ids whose digests differ, or that only one of two configs has.

    Args:
        before: digests of one config, see :func:`digest_config`.
        now: of the other.

    Example:
        >>> changed_ids({"loss": "0a", "imports": "0b"}, {"loss": "0c", "imports": "0b", "mine": "0d"})
        ['loss', 'mine']
    """
    return [name for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)]


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it: a list for a tuple, text for a path or a device."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.as_posix() if isinstance(value, Path) else str(value)
