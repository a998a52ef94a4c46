from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from med3d_components.utils import preflight as module
from med3d_components.utils.causes import root_cause, show_cause
from med3d_components.utils.preflight import check_options, preflight

PROGRAM = os.path.join("x", "monai", "bundle", "__main__.py")


class Run:
    """A config with options, and the command line of MONAI."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.content: dict[str, Any] = {
            "dataset_dir": "data",
            "output_dir": str(folder / "eval"),
            "cache_dir": None,
            "_desc_epochs": "Passes.",
            "epochs": 3,
            "learning_rate": "$0.1 * @epochs",
            "device": "cpu",
            "_desc_bundle": "",
            "bundle_root": str(folder),
            "spacing": [0, 0],
        }

    def __call__(self, *typed: str, **changes: Any) -> ConfigParser:
        """Run the preflight and return the config that it leaves."""
        path = self.folder / "train.json"
        path.write_text(json.dumps(self.content))
        argv = [PROGRAM, "run", "training", "--config_file", str(path), *typed] if typed else ["pytest"]
        self.monkeypatch.setattr(sys, "argv", argv)
        parser = ConfigParser({**self.content, **changes})
        preflight(SimpleNamespace(parser=parser))
        return parser


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(module, "limit_threads", lambda: None)
    return Run(tmp_path, monkeypatch)


def line(run: Run, *typed: str, **changes: Any) -> str:
    """Return the text of the error that a run is refused with."""
    with pytest.raises((ValueError, RuntimeError)) as caught:
        run(*typed, **changes)
    return str(root_cause(caught.value))


def test_values_from_python_are_checked_as_those_of_a_command_line(run: Run) -> None:
    assert line(run, epochs=0) == "epochs is 0, but must be an integer, 1 or more."
    assert line(run, "--epochs", "0", epochs=0) == "epochs is 0, but must be an integer, 1 or more."


def test_only_what_stands_in_the_first_part_is_an_option(run: Run) -> None:
    assert run().get_parsed_content("spacing") == [0, 0]
    assert check_options(run.content) == {}


def test_what_was_corrected_is_what_all_others_see(run: Run) -> None:
    parser = run(cache_dir="null", epochs=2)
    assert parser.get_parsed_content("cache_dir") is None
    assert parser.get_parsed_content("learning_rate") == pytest.approx(0.2)


def test_a_path_is_taken_as_it_was_typed_not_as_fire_reads_it(run: Run) -> None:
    assert run("--dataset_dir", "2024", dataset_dir=2024).get_parsed_content("dataset_dir") == "2024"
    assert run("--dataset_dir=2024", dataset_dir=2024).get_parsed_content("dataset_dir") == "2024"
    assert "rename the folder" in line(run, "--dataset_dir", "a#b", dataset_dir="a")


def test_the_home_folder_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(run.folder))
    parser = run(dataset_dir="~/scans", output_dir="~/eval")
    assert parser.get_parsed_content("dataset_dir") == str(run.folder / "scans")
    assert parser.get_parsed_content("output_dir") == str(run.folder / "eval")


@pytest.mark.parametrize("typed", ["--epoch", "--epoch=1", "--epoch#x"])
def test_a_misspelt_id_is_answered_with_the_nearest(run: Run, typed: str) -> None:
    assert "is no id of the configs; did you mean --epochs?" in line(run, typed, "1", epoch=1)


def test_ids_of_the_configs_and_options_of_monai_are_known(run: Run) -> None:
    run("--epochs", "2", "--bundle_root#x", "1", "--spacing::0", "1", "--logging_file", "False", "--meta-file", "m")
    assert sys.excepthook is show_cause


def test_in_other_programs_no_names_are_checked(run: Run) -> None:
    hook = sys.excepthook
    run()
    assert sys.excepthook is hook


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_tells_the_options_and_ends_the_run(run: Run, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(flag)
    assert ended.value.code == 0
    assert "--epochs  an integer, 1 or more (default 3)\n    Passes." in capsys.readouterr().out


@pytest.mark.parametrize("device", ["tpu9", "cuda:99", ["cpu"]])
def test_a_device_that_is_not_there_is_named_with_those_that_are(run: Run, device: Any) -> None:
    text = line(run, device=device)
    assert text.startswith(f"device is {str(device)!r}, which cannot be used (")
    assert "there is cpu" in text
    assert "\n" not in text


def test_a_device_may_be_an_object(run: Run) -> None:
    assert run(device="$__import__('torch').device('cpu')").get_parsed_content("device") == torch.device("cpu")


def test_a_folder_that_cannot_be_written_stops_a_run_before_it_writes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file, not a folder" in line(run, output_dir=str(tmp_path / "file"))
    assert "is a file, not a folder" in line(run, output_dir=str(tmp_path / "file" / "below"))
    assert "/proc cannot be written" in line(run, output_dir="/proc/med3d")
    run(output_dir=str(tmp_path / "new" / "one"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "train.json"]


@pytest.mark.parametrize("typed", [("--max_region", "8,8,8"), ()])
def test_an_option_of_an_earlier_version_is_answered_with_its_new_name(run: Run, typed: tuple[str, ...]) -> None:
    assert line(run, *typed, max_region=[8, 8, 8]) == "--max_region is called --patch_size since version 0.2."


def test_the_folder_of_the_bundle_is_the_same_for_all_who_ask_later(run: Run) -> None:
    parser = run(bundle_root="$'found by who ' + 'reads it'")
    assert parser["bundle_root"] == "found by who reads it"
