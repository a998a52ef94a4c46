"""The help of a command line, read from the source of its functions: to import them may take seconds."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Mapping
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent, fill
from typing import NamedTuple

__all__ = ["Declaration", "Parameter", "command_help", "module_text", "overview", "read_declaration"]

WIDTH = 100


class Parameter(NamedTuple):
    """A parameter of a function, as a user sees it.

    Args:
        name: of the parameter.
        kind: what to type: str, int, float, bool, mapping, or "int,..." for one or several.
        default: what stands in the source; None if it must be given.
        text: what the docstring says of it.
    """

    name: str
    kind: str
    default: str | None
    text: str


class Declaration(NamedTuple):
    """What the source of a function says about it.

    Args:
        text: its docstring up to the first section.
        options: its parameters.
        others: what the docstring says of all other options; None if the function takes none.
    """

    text: str
    options: tuple[Parameter, ...]
    others: str | None


def read_declaration(reference: str) -> Declaration:
    """Read the signature and the docstring of a function; its module is found, but not imported.

    Args:
        reference: "package.module:function", of a function with a docstring in Google's style and literal defaults.

    Example:
        >>> read_declaration("med3d_components.utils.files:write_json").text
        'Write content as indented JSON, atomically.'
    """
    module, name = reference.split(":")
    tree = _parse(module)
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    text, *sections = re.split(r"^(\w+):\n", _docstring(function), flags=re.MULTILINE)
    arguments = dedent(dict(zip(sections[::2], sections[1::2], strict=True)).get("Args", ""))
    texts = re.split(r"^(\w+): ", arguments, flags=re.MULTILINE)[1:]
    told = dict(zip(texts[::2], texts[1::2], strict=True))
    signature = function.args
    defaults = [None] * (len(signature.args) - len(signature.defaults)) + [ast.unparse(x) for x in signature.defaults]
    options = tuple(
        Parameter(one.arg, _kind(one.annotation), default, told.get(one.arg, ""))
        for one, default in zip(signature.args, defaults, strict=True)
    )
    return Declaration(text.strip(), options, told.get(signature.kwarg.arg, "") if signature.kwarg else None)


def module_text(reference: str) -> str:
    """Return the docstring of the module that a function is in.

    Args:
        reference: "package.module:function".

    Example:
        >>> module_text("med3d_components.utils.files:write_json")
        'Write files so that a reader sees the old content or the new one, never half of it.'
    """
    return (ast.get_docstring(_parse(reference.partition(":")[0])) or "").replace("``", "")


def overview(program: str, about: str, commands: Mapping[str, str]) -> str:
    """Return the help of a program with several commands.

    Args:
        program: its name.
        about: its docstring.
        commands: name to reference of its function.
    """
    listed = [
        f"  {name}\n{_wrap(read_declaration(reference).text.partition(chr(10))[0], '      ')}"
        for name, reference in commands.items()
    ]
    usage = f"usage: {program} COMMAND [options]\n       {program} COMMAND --help"
    return "\n\n".join([usage, _paragraphs(about), "commands:\n" + "\n".join(listed)])


def command_help(program: str, about: str, declaration: Declaration) -> str:
    """Return the help of a command.

    Args:
        program: what is typed before its options.
        about: what it does.
        declaration: its options.
    """
    needed = "".join(f" --{name} {name.upper()}" for name, _, default, _ in declaration.options if default is None)
    usage = fill(f"usage: {program}{needed} [options]", WIDTH, subsequent_indent=" " * 7, break_on_hyphens=False)
    options = [f"{_heading(option)}\n{_wrap(option.text, '      ')}".rstrip() for option in declaration.options]
    if declaration.others is not None:
        options.append(f"  any other option\n{_wrap(declaration.others, '      ')}")
    return "\n\n".join([usage, _paragraphs(about), "options:\n" + "\n".join(options)])


def _parse(module: str) -> ast.Module:
    """Return the syntax tree of a module, which is found but not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"There is no module {module}.")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _docstring(function: ast.FunctionDef) -> str:
    return (ast.get_docstring(function) or "").replace("``", "")


def _kind(annotation: ast.expr | None) -> str:
    parts = [part for part in ast.unparse(annotation).split(" | ") if part != "None"] if annotation else ["str"]
    several = [part for part in parts if part.startswith("Sequence")]
    return f"{several[0][len('Sequence[') : -1]},..." if several else parts[0].partition("[")[0].lower()


def _heading(option: Parameter) -> str:
    """Return the line above the text of an option; a sequence is shown as it is typed."""
    if option.default is None:
        note = " (required)"
    else:
        value = ast.literal_eval(option.default)
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        note = "" if value is None else f" (default {shown})"
    return f"  --{option.name} {option.kind}{note}"


def _paragraphs(text: str) -> str:
    """Wrap a docstring, one item of a list after the other; examples, which are indented, stay as they are."""
    return "\n\n".join(
        part if part.startswith(" ") else "\n".join(map(_wrap, re.split(r"\n(?=- )", part)))
        for part in cleandoc(text.replace("``", "")).split("\n\n")
    )


def _wrap(text: str, indent: str = "") -> str:
    further = "  " if text.startswith("- ") else ""
    return fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + further,
        break_long_words=False,
        break_on_hyphens=False,
    )
