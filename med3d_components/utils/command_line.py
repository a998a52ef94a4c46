"""What a user types: flags, and top-level ids that MONAI would ignore when misspelt."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import fire

from med3d_components.utils.help import command_help, overview, read_declaration

__all__ = ["as_flag", "check_command_line", "run_commands"]

HELP = {"-h", "--help"}


def as_flag(name: str, value: bool | str) -> bool:
    """Read a flag. Fire hands ``--resume false`` over as text, which would be true.

    Raises:
        ValueError: if ``value`` is neither true nor false.

    Example:
        >>> as_flag("resume", "False")
        False
    """
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(f"{name} is {value!r}, but must be true or false.")
    return text == "true"


def check_command_line(argv: Sequence[str] | None = None) -> None:
    """Compare the ids typed after ``python -m monai.bundle run`` with those of the configs.

    MONAI takes a misspelt ``--epoch 1`` without a word. The first entry of every run list calls this; in a program
    of its own, where nothing was typed, it does nothing. It also makes a foreseeable error end in its one line.

    Args:
        argv: the command line; by default that of this process.

    Raises:
        ValueError: for an id that no config has, with the nearest one.
    """
    # Not above: a script that is asked for its help would wait seconds for MONAI and torch.
    from monai.bundle import ConfigParser, run

    argv = sys.argv if argv is None else argv
    # MONAI's exports build a whole config too, and have options of their own.
    if not argv[0].endswith(str(Path("monai", "bundle", "__main__.py"))) or list(argv[1:2]) != ["run"]:
        return
    sys.excepthook = show_cause
    typed = {argument[2:].split("=")[0]: i for i, argument in enumerate(argv) if argument.startswith("--")}
    if "config_file" not in typed:
        return
    position = typed["config_file"]
    text = argv[position].partition("=")[2] or argv[position + 1]
    files = fire.parser.DefaultParseValue(text)
    known = set(ConfigParser.load_config_files(files)) | set(inspect.signature(run).parameters)
    for name in typed:
        _check_known(name.replace("::", "#").split("#")[0].removeprefix("+"), known, text)


def run_commands(commands: Mapping[str, str] | str, about: str | None, argv: Sequence[str] | None = None) -> None:
    """Run a command line of one or several functions through Fire.

    A function is named as "package.module:function", and its module imported when it runs: help, and the answer to a
    misspelt option, are read from the source, since to import torch and MONAI takes seconds. A foreseeable error ends
    the process with one line and exit code 1.

    Args:
        commands: name to function, or the only function.
        about: docstring of the script.
        argv: the arguments; by default those of this process.

    Example:
        >>> run_commands({"flag": "med3d_components.utils.command_line:as_flag"}, None, ["flag", "resume", "False"])
        False
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    program = Path(sys.argv[0]).name
    try:
        if isinstance(commands, str):
            _run_command(commands, program, argv, about)
        elif not argv or argv[0] in HELP:
            print(overview(program, about or "", commands))
        elif argv[0] in commands:
            _run_command(commands[argv[0]], f"{program} {argv[0]}", argv[1:])
        else:
            nearest = difflib.get_close_matches(argv[0], commands, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(commands)}."
            raise ValueError(f"{argv[0]} is no command of {program}; {hint}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _run_command(reference: str, program: str, argv: list[str], about: str | None = None) -> None:
    """Answer for help, or check the options before the command runs: Fire complains about them afterwards."""
    declaration = read_declaration(reference)
    if HELP & set(argv):
        print(command_help(program, about or declaration.text, declaration))
        return
    if declaration.others is None:
        known = {option.name for option in declaration.options}
        for argument in argv:
            if argument.startswith("--"):
                _check_known(argument[2:].split("=")[0], known, program)
    module, _, name = reference.partition(":")
    fire.Fire(getattr(importlib.import_module(module), name), command=argv, name=program)


def _check_known(name: str, known: set[str], where: str) -> None:
    if name not in known and name.replace("-", "_") not in known:
        nearest = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean --{nearest[0]}?" if nearest else f"known are {', '.join(sorted(known))}."
        raise ValueError(f"--{name} is no id of {where}; {hint}")


def show_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the one line of an error that this package foresaw; the traceback of any other.

    MONAI wraps an error once per config item on its way up, and a data loader's worker turns it into text.
    """
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    frames = [frame for frame, _ in traceback.walk_tb(cause.__traceback__)]
    message = (str(cause).strip() or kind.__name__).splitlines()[-1]
    package = __name__.partition(".")[0]
    foreseen = isinstance(cause, ValueError | FileNotFoundError) and (
        message.startswith(package) or (bool(frames) and frames[-1].f_globals["__name__"].startswith(package))
    )
    if foreseen:
        print(f"\nerror: {re.sub(rf'^{package}[.a-zA-Z_]*: ', '', message)}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
