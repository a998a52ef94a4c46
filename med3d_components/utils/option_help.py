"""The options of a bundle in words: for ``--help`` and for the tables of the READMEs."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from med3d_components.utils.options import OPTIONS, is_expression

__all__ = ["default_text", "describe_options", "option_names", "option_table"]

WIDTH, INDENT = 98, 4


def option_names(config: Mapping[str, Any]) -> list[str]:
    """Return the options of a config, in its order: those of the table of all options that its first part has.

    An overlay's own, which stand behind it in the merged config, are told by their description.

    Example:
        >>> option_names({"epochs": 3, "_desc_depth": "...", "depth": 10, "_desc_bundle": "...", "spacing": 1})
        ['epochs', 'depth']
    """
    first = set(takewhile(lambda name: name != "_desc_bundle", config))
    return [name for name in config if name in OPTIONS and (name in first or f"_desc_{name}" in config)]


def describe_options(config: Mapping[str, Any], run_id: str = "") -> str:
    """Return the options of a config with meaning, what is allowed and default, in lines of up to 98 characters.

    Args:
        config: as its file holds it.
        run_id: what is run, such as ``training``.

    Example:
        >>> print(describe_options({"_desc_epochs": "Passes over the data.", "epochs": 3}, "training"))
        usage: python -m monai.bundle run training --config_file FILE [--OPTION VALUE ...]
        <BLANKLINE>
        --epochs  an integer, 1 or more (default 3)
            Passes over the data.
        <BLANKLINE>
        Every other id of the config can be set as well, such as --train#trainer#max_epochs 3.
    """
    lines = [f"usage: python -m monai.bundle run {run_id} --config_file FILE [--OPTION VALUE ...]", ""]
    for name in option_names(config):
        option = OPTIONS[name]
        head = f"--{name}  {option.describe()} (default {default_text(config[name])})"
        lines += textwrap.wrap(head, WIDTH, subsequent_indent=" " * INDENT)
        lines += textwrap.wrap(
            config.get(f"_desc_{name}", ""), WIDTH, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT
        )
    return "\n".join(
        [*lines, "", "Every other id of the config can be set as well, such as --train#trainer#max_epochs 3."]
    )


def default_text(value: Any) -> str:
    """Return a default as it would be typed, or where it comes from.

    Example:
        >>> default_text([96, 96, 96]), default_text("$@bundle_root + '/eval'"), default_text("@seed")
        ('96,96,96', 'eval in the bundle', 'that of --seed')
    """
    if is_expression(value):
        text = value if isinstance(value, str) else ""
        if found := re.fullmatch(r"\$?@(bundle_root|run_dir)(?: \+ '/(.*)')?", text):
            folder = "the bundle" if found[1] == "bundle_root" else "run_dir"
            return f"{found[2]} in {folder}" if found[2] else folder
        if (name := text.removeprefix("@")) in OPTIONS:
            return f"that of --{name}"
        return "computed"
    if isinstance(value, list) and not any(isinstance(each, list) for each in value):
        return ",".join(map(str, value)) or "[]"
    return value if isinstance(value, str) else json.dumps(value).replace(" ", "")


def option_table(config: Mapping[str, Any]) -> str:
    """Return the options of a config as a table in Markdown.

    Args:
        config: as its file holds it.

    Example:
        >>> print(option_table({"_desc_epochs": "Passes over the data.", "epochs": 3}).splitlines()[-1])
        | `--epochs` | 3 | an integer, 1 or more | Passes over the data. |
    """
    rows = ["| Option | Default | Allowed | Meaning |", "|---|---|---|---|"]
    for name in option_names(config):
        cells = (f"`--{name}`", default_text(config[name]), OPTIONS[name].describe(), config.get(f"_desc_{name}", ""))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
