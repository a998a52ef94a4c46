from __future__ import annotations

import json
from pathlib import Path

import pytest

from med3d_components.utils import atomic_path, move_aside, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_write_replaces_the_file_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "settings.json"
    for content in ({"depth": 10}, {"depth": 50}):
        write_json(path, content)
        assert json.loads(path.read_text(encoding="utf-8")) == content
    assert list(path.parent.iterdir()) == [path]


def test_files_are_moved_into_a_folder_of_their_own_each_time(tmp_path: Path) -> None:
    path, attic = tmp_path / "model.pt", tmp_path / "previous"
    assert move_aside([path], attic) is None
    for number in ("1", "2", "3"):
        path.write_text(number)
        assert move_aside([path, tmp_path / "none"], attic) == attic / number
    assert [(attic / number / "model.pt").read_text(encoding="utf-8") for number in "123"] == ["1", "2", "3"]
    assert not path.exists()
