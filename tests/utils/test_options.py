from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from med3d_components.utils.option_help import default_text, describe_options, option_names, option_table
from med3d_components.utils.options import OPTIONS, Option, check_value, is_expression

NAN, INFINITY = float("nan"), float("inf")

REFUSED: list[tuple[str, Any]] = [
    ("epochs", 0),
    ("epochs", -1),
    ("epochs", 1.5),
    ("epochs", True),
    ("epochs", "many"),
    ("epochs", None),
    ("learning_rate", 0),
    ("learning_rate", NAN),
    ("learning_rate", INFINITY),
    ("learning_rate", "nan"),
    ("patch_size", -1),
    ("patch_size", [96, 96]),
    ("patch_size", [96, 96, 0]),
    ("patch_size", (96, 96, 96.5)),
    ("overlap", 1),
    ("overlap", -0.1),
    ("num_workers", -1),
    ("val_fraction", 0),
    ("val_fraction", 2),
    ("intensity_range", [400, -1000]),
    ("intensity_range", [1, 1]),
    ("output_range", None),
    ("percentiles", [0, 101]),
    ("percentiles", [99, 1]),
    ("depth", 11),
    ("depth", "10"),
    ("precision", "bfloat16"),
    ("resume", "yes"),
    ("resume", 1),
    ("frozen_stages", ["layer9"]),
    ("widths", [[1, 2], [3, 4]]),
    ("widths", 3),
    ("rates", []),
    ("seed", -1),
    ("seed", 2**32),
    ("output_postfix", ""),
    ("dataset_dir", 2024),
    ("dataset_dir", ""),
    ("domain_sampling", 0.5),
    ("domain_sampling", "odd"),
    ("margin_mm", [1, 2]),
    ("components", 0),
]

TAKEN: list[tuple[str, Any, Any]] = [
    ("epochs", 1, 1),
    ("learning_rate", 1e-3, 1e-3),
    ("patch_size", (64, 64, 32), [64, 64, 32]),
    ("overlap", 0, 0),
    ("val_fraction", 1, 1),
    ("intensity_range", None, None),
    ("intensity_range", "null", None),
    ("intensity_range", [-1000, 400], [-1000, 400]),
    ("cache_dir", "None", None),
    ("components", "NULL", None),
    ("resume", "True", True),
    ("resume", False, False),
    ("frozen_stages", "stem,layer1", ["stem", "layer1"]),
    ("frozen_stages", [], []),
    ("domains", "Task09_Spleen", ["Task09_Spleen"]),
    ("domains", ("a", "b"), ["a", "b"]),
    ("domain_sampling", "even", "even"),
    ("domain_sampling", 2, 2),
    ("patch_size", 48, [48, 48, 48]),
    ("patch_size", [48, 48, 32], [48, 48, 32]),
    ("margin_mm", 20, [20, 20, 20]),
    ("widths", ((1, 2), (3, 4), (5, 6)), ((1, 2), (3, 4), (5, 6))),
    ("at_threshold", "drop", "drop"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=lambda value: str(value)[:20])
def test_a_value_out_of_range_is_one_line_with_what_is_allowed(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is .*, but must be ") as caught:
        check_value(name, value)
    assert str(caught.value).endswith(f"but must be {OPTIONS[name].describe()}.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value", "expected"), TAKEN, ids=lambda value: str(value)[:20])
def test_an_allowed_value_is_taken_as_the_configs_use_it(name: str, value: Any, expected: Any) -> None:
    assert check_value(name, value) == expected


def test_a_path_that_monai_cannot_hold_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"dataset_dir is a#b, but MONAI's configs take # .* give a link to it"):
        check_value("dataset_dir", "a#b")


def test_the_home_folder_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert check_value("dataset_dir", "~/scans") == "/home/someone/scans"
    assert check_value("cache_dir", "~") == "/home/someone"
    assert check_value("pretrained_weights", "kinetics:~/r.pth") == "kinetics:/home/someone/r.pth"


def test_what_is_null_in_no_table_is_refused_as_null() -> None:
    for name, option in OPTIONS.items():
        if option.null:
            assert check_value(name, "null") is None
            assert "or null" in option.describe()
        elif option.kind in ("integer", "number", "flag", "choice"):
            with pytest.raises(ValueError, match="is 'null', but must be"):
                check_value(name, "null")


@pytest.mark.parametrize("value", ["$1 + 1", "@seed", "%x", {"_target_": "x"}])
def test_what_is_computed_later_is_no_value_yet(value: Any) -> None:
    assert is_expression(value)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (Option("flag"), "true or false"),
        (Option("integer", 2), "an integer, 2 or more"),
        (Option("number", 0, 1), "a number from 0 to 1"),
        (Option("number", 0, 1, below=True), "a number of 0 or more and below 1"),
        (Option("number", 0, above=True, count=3, single=True), "one or three numbers, each above 0"),
        (Option("number", count=2, rising=True, null=True), "two numbers, the second above the first, or null"),
        (Option("integer", 1, count=0), "one or more integers, each 1 or more"),
        (Option("number", 1, choices=("even",)), "even, or a number, 1 or more"),
    ],
)
def test_what_is_allowed_reads_as_english(option: Option, words: str) -> None:
    assert option.describe() == words


CONFIG = {
    "_desc_epochs": "Passes over the data. " * 8,
    "epochs": 3,
    "_desc_run_dir": "Parent of models/.",
    "run_dir": "@bundle_root",
    "split_seed": "@seed",
    "widths": [[256, 128], [128, 64], [64, 32]],
    "frozen_stages": [],
    "cache_dir": None,
    "learning_rate": "$0.01 if @x else 1",
    "_desc_bundle": "",
    "spacing": [1, 1, 1],
}


def test_help_lists_the_options_alone_with_defaults_in_lines_of_100_columns() -> None:
    text = describe_options(CONFIG, "training")
    assert max(map(len, text.splitlines())) < 100
    assert "--epochs  an integer, 1 or more (default 3)\n    Passes over the data." in text
    assert "(default the bundle)" in text
    assert "--spacing" not in text


def test_a_default_is_shown_as_it_would_be_typed() -> None:
    shown = [default_text(CONFIG[name]) for name in ("split_seed", "widths", "frozen_stages", "cache_dir")]
    assert shown == ["that of --seed", "[[256,128],[128,64],[64,32]]", "[]", "null"]
    assert default_text(CONFIG["learning_rate"]) == "computed"


def test_the_table_of_a_readme_has_a_row_for_each_option() -> None:
    rows = option_table(CONFIG).splitlines()
    assert rows[0] == "| Option | Default | Allowed | Meaning |"
    assert rows[2].startswith("| `--epochs` | 3 | an integer, 1 or more | Passes")
    assert len(rows) == 2 + 7


def test_the_documents_tell_of_every_option_what_a_resume_does_with_it() -> None:
    root = Path(__file__).parents[2]
    configs = [json.loads(path.read_text(encoding="utf-8")) for path in root.glob("bundles/*/configs/train.json")]
    names = {name for config in configs for name in option_names(config)} - {"resume"}
    text = (root / "docs" / "trainings.md").read_text(encoding="utf-8")
    text = text.partition("### What a resume takes")[2].partition("\n## ")[0]
    rows = [set(re.findall(r"`(\w+)`", line)) for line in text.splitlines() if line.startswith("| `")]
    kinds = ("taken", "refused", "free")
    assert rows == [{name for name in names if OPTIONS[name].resume == kind} for kind in kinds]
