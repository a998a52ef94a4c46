from __future__ import annotations

import pytest

from med3d_components.utils import as_flag, run_commands


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE"])
def test_true_in_any_case_is_true(value: bool | str) -> None:
    assert as_flag("resume", value) is True
    assert as_flag("resume", str(value).lower().replace("true", "False")) is False


@pytest.mark.parametrize("value", ["yes", 1, "", None])
def test_anything_else_is_no_flag(value: str) -> None:
    with pytest.raises(ValueError, match="must be true or false"):
        as_flag("resume", value)


def test_commands_run_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {"greet": lambda name, times=1: print(name * times)}
    run_commands(commands, ["greet", "--name", "ab", "--times=2"])
    assert capsys.readouterr().out == "abab\n"


def test_a_misspelt_option_stops_a_command_before_it_works(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {"greet": lambda name="", times=1: print("worked")}
    with pytest.raises(SystemExit):
        run_commands(commands, ["greet", "--time", "2"])
    assert capsys.readouterr() == ("", "error: --time is no id of the command greet; did you mean --times?\n")


def test_an_only_command_needs_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    def greet(name: str = "x") -> None:
        print(name)

    run_commands(greet, ["--name", "ab"])
    assert capsys.readouterr().out == "ab\n"
    with pytest.raises(SystemExit):
        run_commands(greet, ["--nam", "ab"])
    assert capsys.readouterr() == ("", "error: --nam is no id of the command; did you mean --name?\n")


def test_a_foreseen_error_of_a_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_commands({"flag": as_flag}, ["flag", "flag", "x"])  # type: ignore[dict-item]
    assert capsys.readouterr().err == "error: flag is 'x', but must be true or false.\n"
