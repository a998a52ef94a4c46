"""What happens before a bundle's run reads or writes anything: its options are checked, or explained."""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, run

from med3d_components.utils.causes import show_cause
from med3d_components.utils.command_line import check_known
from med3d_components.utils.machine import limit_threads
from med3d_components.utils.option_help import describe_options, option_names
from med3d_components.utils.options import NULLS, OPTIONS, PATHS, RENAMED, check_value, is_expression

__all__ = ["check_options", "preflight"]

WRITTEN = ("run_dir", "ckpt_dir", "output_dir", "cache_dir")
"""Options that name folders to write."""


def preflight(workflow: ConfigWorkflow) -> None:
    """Check the options of the run whose config this is a part of; the first entry of every ``initialize``.

    On MONAI's command line it also answers ``--help``, refuses an id that no config has, which MONAI would take without
    a word, and makes a foreseeable error end in its one line. The folder of the bundle, which the config finds by who
    reads it, is kept, so that it is the same for whoever asks later.

    Args:
        workflow: that reads the config.

    Raises:
        ValueError: for an option that is unknown or has a value that is not allowed, and for a folder that cannot be
            written.
    """
    config = workflow.parser
    typed = _typed(sys.argv)
    if typed is not None:
        sys.excepthook = show_cause
        if "help" in typed:
            print(describe_options(config.get(), sys.argv[2]))
            sys.exit(0)
        # From the files, since what was typed is a part of the config by now.
        if "config_file" in typed:
            files = ConfigParser.load_config_files(fire.parser.DefaultParseValue(typed["config_file"]))
            known = {*files, *inspect.signature(run).parameters}
            for name in typed:
                top = name.replace("::", "#").split("#")[0].removeprefix("+")
                _check_renamed([top])
                check_known(top, known, "the configs")
    changes = {"bundle_root": config.get_parsed_content("bundle_root"), **check_options(config.get(), typed or {})}
    config.update(changes)
    config.parse()  # what was resolved so far is forgotten with the old values
    _check_device(config)
    for name in WRITTEN:
        if name in config and (folder := config.get_parsed_content(name)) is not None:
            _check_folder(name, Path(folder).expanduser())
    limit_threads()


def check_options(config: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Check the values of all options of a config that are no expressions.

    Args:
        config: as it is read, with the changes of the command line or of a caller.
        typed: what was typed for options, as text.

    Returns:
        Options whose value is to be another one than that in the config: paths as they were typed, which Fire turns
        into numbers where they are digits, and cuts off at ``#``; null for ``null``; home folders for ``~``.

    Raises:
        ValueError: for a value that is not allowed, or an option that has another name now.

    Example:
        >>> check_options({"epochs": 3, "cache_dir": "null", "depth": "@other"})
        {'cache_dir': None}
        >>> check_options({"intensity_range": [0, 1]}, {"intensity_range": "None"})
        {'intensity_range': None}
    """
    _check_renamed(config)
    changes = {}
    for name in option_names(config):
        option, value = OPTIONS[name], config[name]
        text = (typed or {}).get(name)
        # Fire makes None of "None", which MONAI takes for an option that was not typed.
        if text is not None and (option.kind in PATHS or text.lower() in NULLS):
            value = text
        if not is_expression(value):
            checked = check_value(name, value, option)
            if checked != config[name] or type(checked) is not type(config[name]):
                changes[name] = checked
    return changes


def _check_renamed(names: Iterable[str]) -> None:
    for name in names:
        if name in RENAMED:
            raise ValueError(f"--{name} is called --{RENAMED[name]} since version 0.2.")


def _typed(argv: Sequence[str]) -> dict[str, str] | None:
    """Return the options that were typed after ``python -m monai.bundle run``, None in any other program."""
    # MONAI's exports read whole configs too, and have options of their own.
    if not argv[0].endswith(str(Path("monai", "bundle", "__main__.py"))) or list(argv[1:2]) != ["run"]:
        return None
    typed: dict[str, str] = {}
    for index, argument in enumerate(argv):
        if argument.startswith("--") or argument == "-h":
            name, equals, value = argument.lstrip("-").partition("=")
            following = argv[index + 1] if index + 1 < len(argv) else ""
            typed["help" if name == "h" else name.replace("-", "_")] = value if equals else following
    return typed


def _check_device(config: ConfigParser) -> None:
    """Try the device, since its name does not say whether it exists."""
    device = config.get_parsed_content("device")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(
            f"device is {str(device)!r}, which cannot be used ({why}); there is {', '.join(there)}."
        ) from None


def _check_folder(name: str, folder: Path) -> None:
    """Try whether a folder can be made and written, and leave no trace."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise ValueError(f"{name} is {folder}, but {above} is a file, not a folder; name another one.")
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
        raise ValueError(f"{name} is {folder}, but {above} cannot be written ({reason}); name another one.") from None
