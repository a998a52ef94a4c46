from __future__ import annotations

from pathlib import Path

import pytest

from med3d_components.settings import read_settings
from med3d_components.utils import write_json


def test_settings_come_back_as_written(tmp_path: Path) -> None:
    settings = {"bundle": "tiny", "network": {"depth": 10}, "spacing": {"a": [1.0, 1.0, 2.5]}}
    write_json(tmp_path / "settings.json", settings)
    assert read_settings(tmp_path / "settings.json") == settings
    assert read_settings(tmp_path / "settings.json", part="network") == {"depth": 10}
    with pytest.raises(ValueError, match=r"settings\.json lacks roi_size; restore it"):
        read_settings(tmp_path / "settings.json", default={"network": {}, "roi_size": [8, 8, 8]})


def test_the_default_stands_in_for_a_missing_file_only(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    assert read_settings(path, default={"depth": 50}) == {"depth": 50}
    with pytest.raises(FileNotFoundError, match="train first"):
        read_settings(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        read_settings(path, default={"depth": 50})


def test_settings_of_an_earlier_version_are_one_line(tmp_path: Path) -> None:
    write_json(tmp_path / "settings.json", {"depth": 10})
    with pytest.raises(ValueError, match=r"was written by version 0\.1, which this version cannot read"):
        read_settings(tmp_path / "settings.json")


def test_the_parent_of_the_right_folder_is_answered_with_it(tmp_path: Path) -> None:
    write_json(tmp_path / "models" / "settings.json", {"network": {}})
    with pytest.raises(FileNotFoundError, match=f"give --ckpt_dir {tmp_path / 'models'}"):
        read_settings(tmp_path / "settings.json", default={})


def test_an_entry_that_only_the_evaluation_asks_for_is_named_where_it_is_missing(tmp_path: Path) -> None:
    write_json(tmp_path / "settings.json", {"bundle": "tiny", "network": {}, "coarse": {"spacing": [1, 1, 1]}})
    with pytest.raises(ValueError, match=r"settings\.json lacks split_seed; restore it"):
        read_settings(tmp_path / "settings.json")["split_seed"]
    with pytest.raises(ValueError, match=r"settings\.json lacks roi_size; restore it"):
        read_settings(tmp_path / "settings.json", part="coarse")["roi_size"]
