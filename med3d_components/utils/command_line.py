"""The command lines of the scripts."""

from __future__ import annotations

import difflib
import importlib
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import fire

from med3d_components.utils.causes import INTERRUPTED, explain
from med3d_components.utils.help import Declaration, command_help, module_text, overview, read_declaration

__all__ = ["check_known", "run_commands"]

HELP = {"-h", "--help"}
MANY = 20
"""Names that are too many for an error of one line."""


def run_commands(commands: Mapping[str, str] | str, about: str | None, argv: Sequence[str] | None = None) -> None:
    """Run a command line of one or several functions through Fire.

    A function is named as "package.module:function", and its module imported when it runs: help, and the answer to a
    misspelt option, are read from the source, since to import torch and MONAI takes seconds. A foreseeable error ends
    the process with one line and exit code 1, Ctrl-C with 130.

    Args:
        commands: name to function, or the only function. Names of two words, such as "prepare lits", make a group of
            their first, described by the docstring of their module.
        about: docstring of the script.
        argv: the arguments; by default those of this process.

    Example:
        >>> run_commands({"flag": "med3d_components.utils.checks:as_flag"}, None, ["flag", "resume", "False"])
        False
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    script = Path(sys.argv[0])
    program = f"python -m {script.parent.name}" if script.name == "__main__.py" else script.name
    try:
        _dispatch(commands, program, argv, about)
    except KeyboardInterrupt:
        print(f"\nerror: {INTERRUPTED}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(1)


def _dispatch(commands: Mapping[str, str] | str, program: str, argv: list[str], about: str | None) -> None:
    if isinstance(commands, str):
        _run_command(commands, program, argv, about)
        return
    first = argv[0] if argv else ""
    group = {name.partition(" ")[2]: command for name, command in commands.items() if name.startswith(f"{first} ")}
    if not argv or first in HELP:
        print(overview(program, about or "", commands))
    elif group:
        _dispatch(group, f"{program} {first}", argv[1:], module_text(next(iter(group.values()))))
    elif first in commands:
        _run_command(commands[first], f"{program} {first}", argv[1:])
    else:
        names = list(dict.fromkeys(name.partition(" ")[0] for name in commands))
        nearest = difflib.get_close_matches(first, names, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(names)}."
        raise ValueError(f"{first} is no command of {program}; {hint}")


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
                check_known(argument[2:].split("=")[0], known, program)
    argv = _quote_texts(argv, declaration)
    module, _, name = reference.partition(":")
    fire.Fire(getattr(importlib.import_module(module), name), command=argv, name=program)


def _quote_texts(argv: Sequence[str], declaration: Declaration) -> list[str]:
    """Quote what is typed for texts: Fire would cut a path off at ``#``, and make a number of one of digits.

    Example:
        >>> from med3d_components.utils.help import Parameter
        >>> path = Declaration("", (Parameter("path", "str", None, ""), Parameter("count", "int", "1", "")), None)
        >>> _quote_texts(["2024#1", "--count", "3"], path), _quote_texts(["--path", "007", "--path=a,b"], path)
        (["'2024#1'", '--count', '3'], ['--path', "'007'", "--path='a,b'"])
    """
    texts = {option.name for option in declaration.options if option.kind == "str"}
    unnamed = iter(declaration.options)
    quoted, expected = [], ""
    for argument in argv:
        name, equals, value = argument.partition("=")
        if argument.startswith("--"):
            expected = name[2:].replace("-", "_")
            quoted.append(f"{name}={value!r}" if equals and expected in texts else argument)
            expected = "" if equals else expected
        else:
            expected = expected or getattr(next(unnamed, None), "name", "")
            quoted.append(repr(argument) if expected in texts else argument)
            expected = ""
    return quoted


def check_known(name: str, known: Collection[str], where: str) -> None:
    """Compare the name of an option with those that there are.

    Args:
        name: as typed, without dashes.
        known: names.
        where: whose names they are, for the error.

    Raises:
        ValueError: for an unknown one, with the nearest that there is.

    Example:
        >>> check_known("epoch", ["epochs", "depth"], "the configs")
        Traceback (most recent call last):
        ...
        ValueError: --epoch is no id of the configs; did you mean --epochs?
    """
    if name not in known and name.replace("-", "_") not in known:
        nearest = difflib.get_close_matches(name, sorted(known), n=1)
        listed = f"known are {', '.join(sorted(known))}." if len(known) < MANY else "--help lists those there are."
        raise ValueError(f"--{name} is no id of {where}; {f'did you mean --{nearest[0]}?' if nearest else listed}")
