from __future__ import annotations

import sys
from pathlib import Path

import pytest

from med3d_components.utils import run_commands

COMMANDS = """
print("imported")

def greet(name: str, times: int = 1) -> None:
    \"\"\"Greet.\"\"\"
    print(name * times)

def pass_on(out: str = "", **options: object) -> None:
    \"\"\"Pass options on.\"\"\"
    print(options)
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return commands of a module that says when it is imported."""
    (tmp_path / "typed_commands.py").write_text(COMMANDS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "typed_commands", raising=False)
    monkeypatch.setattr(sys, "argv", ["scripts/tool.py"])
    return {name: f"typed_commands:{name}" for name in ("greet", "pass_on")}


def test_commands_run_with_their_options(commands: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    run_commands(commands, None, ["greet", "--name", "ab", "--times=2"])
    assert capsys.readouterr().out == "imported\nabab\n"


@pytest.mark.parametrize(
    ("argv", "answer"),
    [
        (["greet", "--time", "2"], "--time is no id of tool.py greet; did you mean --times?"),
        (["greet", "--xyz"], "--xyz is no id of tool.py greet; known are name, times."),
        (["great", "ab"], "great is no command of tool.py; did you mean greet?"),
        (["xyz"], "xyz is no command of tool.py; known are greet, pass_on."),
    ],
)
def test_a_misspelt_word_is_answered_before_the_command_is_imported(
    commands: dict[str, str], capsys: pytest.CaptureFixture[str], argv: list[str], answer: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_commands(commands, None, argv)
    assert ended.value.code == 1
    assert capsys.readouterr() == ("", f"error: {answer}\n")


def test_an_only_command_needs_no_name(commands: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_commands(commands["greet"], None, ["--nam", "ab"])
    assert capsys.readouterr() == ("", "error: --nam is no id of tool.py; did you mean --name?\n")
    run_commands(commands["greet"], None, ["--name", "ab"])
    assert capsys.readouterr().out == "imported\nab\n"


def test_a_command_that_takes_any_option_checks_them_itself(
    commands: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_commands(commands, None, ["pass_on", "--epoch", "1"])
    assert capsys.readouterr().out == "imported\n{'epoch': 1}\n"


@pytest.mark.parametrize("argv", [["--help"], ["-h"], [], ["greet", "--help"], ["greet", "ab", "-h"]])
def test_help_is_printed_and_nothing_imported(
    commands: dict[str, str], capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    run_commands(commands, "Greet people.", argv)
    out, err = capsys.readouterr()
    assert out.startswith("usage: tool.py greet --name NAME" if "greet" in argv else "usage: tool.py COMMAND")
    assert "imported" not in out + err


def test_a_foreseen_error_of_a_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_commands({"flag": "med3d_components.utils.checks:as_flag"}, None, ["flag", "flag", "x"])
    assert capsys.readouterr().err == "error: flag is 'x', but must be true or false.\n"


def test_ctrl_c_ends_in_one_line_and_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pressed_commands.py").write_text(
        "def wait() -> None:\n    raise KeyboardInterrupt\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_commands("pressed_commands:wait", None, [])
    assert ended.value.code == 130
    assert "goes on from what it saved last with --resume true" in capsys.readouterr().err
