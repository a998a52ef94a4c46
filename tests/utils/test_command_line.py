from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from med3d_components.data import DataError
from med3d_components.utils import as_flag, check_command_line, run_commands
from med3d_components.utils.command_line import show_cause


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE"])
def test_true_in_any_case_is_true(value: bool | str) -> None:
    assert as_flag("resume", value) is True
    assert as_flag("resume", str(value).lower().replace("true", "False")) is False


@pytest.mark.parametrize("value", ["yes", 1, "", None])
def test_anything_else_is_no_flag(value: str) -> None:
    with pytest.raises(ValueError, match="must be true or false"):
        as_flag("resume", value)


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the start of a command line with two configs."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    for name, content in (("train", {"epochs": 1, "train": {"trainer": 1}}), ("smoke", {"depth": 10})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = f"['{tmp_path / 'train.json'}','{tmp_path / 'smoke.json'}']"
    return ["/x/monai/bundle/__main__.py", "run", "training", "--config_file", files]


def test_ids_of_all_configs_and_options_of_monai_pass(typed: list[str]) -> None:
    check_command_line([*typed, "--epochs", "2", "--depth=10", "--train#trainer#x", "1", "--train::y", "1"])
    check_command_line([*typed, "--logging_file", "False", "--run_id", "x", "--meta-file", "m"])
    assert sys.excepthook is show_cause


@pytest.mark.parametrize("argument", ["--epoch", "--epoch=1", "--trian#trainer#max_epochs"])
def test_a_misspelt_id_is_answered_with_the_nearest(typed: list[str], argument: str) -> None:
    with pytest.raises(ValueError, match=r"is no id of .*; did you mean --(epochs|train)\?"):
        check_command_line([*typed, argument])
    with pytest.raises(ValueError, match=r"--xyz is no id of .*; known are .*depth, epochs"):
        check_command_line([*typed, "--xyz"])


def test_in_other_programs_nothing_is_checked() -> None:
    check_command_line(["pytest", "--nonsense"])
    check_command_line(["/x/monai/bundle/__main__.py", "run", "--args_file", "x"])
    check_command_line(["/x/monai/bundle/__main__.py", "onnx_export", "--config_file", "x", "--ckpt_file", "y"])


def chain(error: Exception, into: type[Exception]) -> Exception:
    try:
        raise into("wrapped") from error
    except into as wrapped:
        return wrapped


def raised(value: str) -> ValueError:
    try:
        as_flag("resume", value)
    except ValueError as error:
        return error
    raise AssertionError


def test_a_foreseen_error_ends_in_its_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = chain(raised("yes"), RuntimeError)
    show_cause(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "\nerror: resume is 'yes', but must be true or false.\n"


def test_an_error_of_a_worker_ends_in_its_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = "Caught DataError in DataLoader worker process 0.\nmed3d_components.data.dataset.DataError: a.nii: cut off\n"
    error = DataError(text)
    show_cause(type(error), error, None)
    assert capsys.readouterr().err == "\nerror: a.nii: cut off\n"


def test_an_unforeseen_error_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    error = chain(KeyError("x"), RuntimeError)
    show_cause(type(error), error, error.__traceback__)
    assert "Traceback" in capsys.readouterr().err


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
