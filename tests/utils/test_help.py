from __future__ import annotations

from pathlib import Path

import pytest

from med3d_components.utils.help import Parameter, command_help, overview, read_declaration

SOURCE = '''
import no_such_module

def train(
    data: str, size: int | Sequence[int] = (8, 9), only: str | None = None, fast: bool | str = True,
    rate: float = 1e-3, more: Mapping[str, Any] | None = None, **options: Any,
) -> None:
    """Train on ``data``.

    A long line of text that says so much about the training that it does not fit into the width of a screen.

    - one
    - two

    Args:
        data: folder.
        size: of the cubes:
            three numbers.
        options: of the bundle.

    Raises:
        ValueError: never.
    """

def stop() -> None:
    """Stop.

    At once.
    """
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module that cannot be imported."""
    (tmp_path / "documented.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "documented"


def test_signature_and_docstring_are_read_from_the_source(module: str) -> None:
    text, options, others = read_declaration(f"{module}:train")
    assert text.startswith("Train on data.\n\nA long")
    assert text.endswith("- two")
    assert others is not None
    assert others.strip() == "of the bundle."
    assert options[0] == Parameter("data", "str", None, "folder.\n")
    assert [(one.name, one.kind, one.default) for one in options[1:]] == [
        ("size", "int,...", "(8, 9)"),
        ("only", "str", "None"),
        ("fast", "bool", "True"),
        ("rate", "float", "0.001"),
        ("more", "mapping", "None"),
    ]
    assert read_declaration(f"{module}:stop") == ("Stop.\n\nAt once.", (), None)


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="There is no module documented_nowhere"):
        read_declaration("documented_nowhere:train")


def test_the_help_of_a_command_shows_how_its_options_are_typed(module: str) -> None:
    declaration = read_declaration(f"{module}:train")
    assert (
        command_help("tool.py train", declaration.text, declaration)
        == """\
usage: tool.py train --data DATA [options]

Train on data.

A long line of text that says so much about the training that it does not fit into the width of a
screen.

- one
- two

options:
  --data str (required)
      folder.
  --size int,... (default 8,9)
      of the cubes: three numbers.
  --only str
  --fast bool (default True)
  --rate float (default 0.001)
  --more mapping
  any other option
      of the bundle."""
    )


def test_the_help_of_a_program_lists_its_commands_and_keeps_its_examples(module: str) -> None:
    commands = {name: f"{module}:{name}" for name in ("train", "stop")}
    example = f"    tool.py {'x' * 100}  # as it is"
    assert (
        overview("tool.py", f"Do things.\n\n{example}\n\nOr not.\n", commands)
        == f"""\
usage: tool.py COMMAND [options]
       tool.py COMMAND --help

Do things.

{example}

Or not.

commands:
  train
      Train on data.
  stop
      Stop."""
    )
