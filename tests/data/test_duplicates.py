from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import pytest

from med3d_components.data import duplicates
from med3d_components.data.dataset_json import Entry
from med3d_components.data.duplicates import PROBE, check_listed_once, find_copies
from med3d_components.utils.files import file_digest

SPELLINGS = ["./imagesTr/a.nii.gz", "imagesTr/../imagesTr/a.nii.gz", "link/a.nii.gz"]


def entries(folder: Path, *pairs: tuple[str, str]) -> list[Entry]:
    return [Entry((folder / image,), folder / label) for image, label in pairs]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_file_in_another_spelling_is_the_same_file(tmp_path: Path, spelling: str) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "imagesTr")
    for twice in (
        entries(tmp_path, ("imagesTr/a.nii.gz", "l/a.nii.gz"), (spelling, "l/b.nii.gz")),
        entries(tmp_path, ("i/a.nii.gz", "imagesTr/a.nii.gz"), ("i/b.nii.gz", spelling)),
        entries(tmp_path, ("imagesTr/a.nii.gz", spelling)),
    ):
        with pytest.raises(ValueError, match=r"dataset\.json lists .*imagesTr/a\.nii\.gz twice"):
            check_listed_once(tmp_path / "dataset.json", twice)


@pytest.mark.parametrize("other", ["more/Jörg.nii.gz", "imagesTr/Jörg.nrrd", normalize("NFD", "more/Jörg.nii")])
def test_two_files_of_one_case_name_are_refused(tmp_path: Path, other: str) -> None:
    twice = entries(tmp_path, ("imagesTr/Jörg.nii.gz", "l/a.nii.gz"), (other, "l/b.nii.gz"))
    with pytest.raises(ValueError, match="which are both case Jörg; rename one"):
        check_listed_once(tmp_path / "dataset.json", twice)


def test_files_of_equal_content_are_found_and_hardly_any_other_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 5 * PROBE
    contents = {
        "one": bytes(size), "two": bytes(size), "longer": bytes(size + 1), "start": b"x" + bytes(size - 1),
        "end": bytes(size - 1) + b"x", "between": bytes(PROBE + 9) + b"x" + bytes(size - PROBE - 10), "small": b"s",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    read: list[str] = []
    monkeypatch.setattr(duplicates, "file_digest", lambda path: read.append(path.name) or file_digest(path))
    found = find_copies([*(tmp_path / name for name in contents), tmp_path])
    assert found == [[tmp_path / "one", tmp_path / "two"]]
    assert read == ["one", "two", "between"]


def test_links_to_one_content_are_no_case_listed_twice(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(b"an empty label, as git-annex keeps it")
    for name in "ab":
        (tmp_path / name).symlink_to(tmp_path / "content")
    check_listed_once(tmp_path / "dataset.json", entries(tmp_path, ("i/a.nii", "a"), ("i/b.nii", "b")))
    assert find_copies([tmp_path / "a", tmp_path / "b"]) == [[tmp_path / "a", tmp_path / "b"]]
