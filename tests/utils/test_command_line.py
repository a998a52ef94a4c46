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
        run_commands({"flag": "med3d_components.utils.command_line:as_flag"}, None, ["flag", "flag", "x"])
    assert capsys.readouterr().err == "error: flag is 'x', but must be true or false.\n"
