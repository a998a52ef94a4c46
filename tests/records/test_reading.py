from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from med3d_components.records import read_record
from med3d_components.utils import write_json
from tests.records.samples import sample_record

DAMAGE: dict[str, tuple[Any, str]] = {
    "no list": ([1], "is no record of a training that this version can read"),
    "other format": (sample_record(format=2), "is no record of a training that this version can read"),
    "no options": ({**sample_record(), "options": None}, "is damaged ('options' is 'None')"),
    "no parts": (sample_record(parts=[]), "is damaged ('parts' is empty)"),
    "no environment": (sample_record(parts=[{"status": "running"}]), "is damaged ('parts.environment' is missing)"),
    "no epoch": (sample_record(scores=[{"val_mean_dice": 1}]), "is damaged ('scores.epoch' is missing)"),
    "best": (sample_record(best={"metric": "x", "score": "1", "epoch": 1}), "is damaged ('best.score' is '1')"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    content, message = DAMAGE[damage]
    write_json(tmp_path / "run.json", content)
    with pytest.raises(ValueError, match=r"run\.json is ") as caught:
        read_record(tmp_path / "run.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_a_file_and_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1, "sta')
    with pytest.raises(ValueError, match=r"run\.json is damaged \(Unterminated string"):
        read_record(tmp_path / "run.json")
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist; name the run\.json of a training"):
        read_record(tmp_path / "none.json")


def test_a_whole_record_is_read_as_it_is(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", sample_record())
    assert read_record(tmp_path / "run.json") == sample_record()
