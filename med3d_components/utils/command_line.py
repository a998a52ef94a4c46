"""What a user types: flags, and the command lines of the scripts."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence

import fire

from med3d_components.utils.causes import explain

__all__ = ["as_flag", "run_commands"]


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


def run_commands(
    commands: Mapping[str, Callable[..., None]] | Callable[..., None], argv: Sequence[str] | None = None
) -> None:
    """Run a command line of one or several functions through Fire.

    Fire runs a command first and complains about a misspelt option afterwards; this looks first. A foreseeable error
    ends the process with one line and exit code 1.

    Args:
        commands: name to function, or the only function.
        argv: the arguments; by default those of this process.
    """
    argv = sys.argv[1:] if argv is None else argv
    function = commands if callable(commands) else commands.get(argv[0] if argv else "")
    where = "the command" if callable(commands) else " ".join(["the command", *argv[:1]])
    try:
        if function and not {"-h", "--help"} & set(argv):
            known = set(inspect.signature(function).parameters)
            for argument in argv:
                if argument.startswith("--"):
                    _check_known(argument[2:].split("=")[0], known, where)
        fire.Fire(commands if callable(commands) else dict(commands), command=list(argv))
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(1)


def _check_known(name: str, known: set[str], where: str) -> None:
    if name not in known and name.replace("-", "_") not in known:
        nearest = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean --{nearest[0]}?" if nearest else f"known are {', '.join(sorted(known))}."
        raise ValueError(f"--{name} is no id of {where}; {hint}")
