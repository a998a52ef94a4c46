from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest

from med3d_components.data.dataset_json import SegmentationList, path_on_disk, read_dataset_json, read_segmentations
from med3d_components.data.nodules import NoduleDatalist

GOOD: dict[str, Any] = {
    "name": "Möhre",
    "labels": {"0": "background", "1": "Läsion"},
    "training": [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz", "voxels": {"1": 5}}
        for name in ("a", "b")
    ],
    "channel": 1,
}


def write(folder: Path, content: Any, encoding: str = "utf-8") -> Path:
    path = folder / "dataset.json"
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_encoding_of_unicode_is_read(tmp_path: Path, encoding: str) -> None:
    read = read_segmentations(write(tmp_path, GOOD, encoding))
    assert read.classes == ("background", "Läsion")
    assert read.channel == 1
    assert [entry.image for entry in read.entries] == [tmp_path / f"imagesTr/{name}.nii.gz" for name in ("a", "b")]
    assert read.entries[0].voxels == {1: 5}


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp437"])
def test_other_encodings_are_one_line(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ValueError, match=r"dataset\.json is no text in Unicode \(byte \d+ is none of UTF-8\); save it"):
        read_dataset_json(write(tmp_path, GOOD, encoding))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"\x00" * 40, b"[" * 100_000, b"%PDF-1.4 \x89\xb0"])
def test_what_is_no_json_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"dataset\.json (must be JSON|is no text)") as caught:
        read_dataset_json(tmp_path / "dataset.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, [], [GOOD], "text", 3, True])
def test_json_that_is_no_object_is_one_line_in_every_kind_of_data_set(tmp_path: Path, content: Any) -> None:
    path = write(tmp_path, content)
    for read in (read_segmentations, lambda path: NoduleDatalist(path.parent)):
        with pytest.raises(ValueError, match=r"dataset\.json must be a JSON object, .* but is "):
            read(path)


@pytest.mark.parametrize("channel", [1.5, True, None, "T2", -1, [0], {}])
def test_a_channel_that_is_no_whole_number_is_refused(tmp_path: Path, channel: Any) -> None:
    with pytest.raises(ValueError, match=r"dataset\.json: 'channel' must be a whole number, 0 or more, but is"):
        read_segmentations(write(tmp_path, GOOD | {"channel": channel}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "'labels' must map '0', '1', ... to class names without a gap, but is null"),
        ({"labels": ["background", "liver"]}, "'labels' must map"),
        ({"labels": {"background": 0, "liver": 1}}, "'labels' must map"),
        ({"labels": {"0": "background", "1": 7}}, "'labels' must map to names, but one is 7"),
        ({"labels": {"0": "background", "1": " "}}, "a class has no name"),
        ({"labels": {"0": "background", "1": "a", "2": "a"}}, "two classes are called 'a'; rename one"),
        ({"labels": {"0": "background", "1": normalize("NFC", "ä"), "2": normalize("NFD", "ä")}}, "two classes are"),
        *(({"labels": {"0": "b", "1": name}}, "as a column of the tables is") for name in ("case", "Domain", "epoch")),
        ({"training": None}, "'training' must be a list of cases, but is null"),
        ({"training": {"0": {}}}, "'training' must be a list of cases"),
        ({"training": ["a.nii.gz", "b.nii.gz"]}, "must have 'image' and 'label', each the path of a file, but one is"),
        ({"training": [None]}, "each the path of a file, but one is null"),
        ({"training": [{"image": ["a", 1], "label": "c"}]}, "each the path of a file"),
        ({"training": [{"image": "", "label": "c"}]}, "each the path of a file"),
        ({"training": [{"image": "a\0", "label": "c"}]}, "each the path of a file"),
    ],
)
def test_each_entry_of_another_shape_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, GOOD | changes)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_segmentations(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_missing_entry_is_named(tmp_path: Path) -> None:
    for name in ("labels", "training"):
        path = write(tmp_path, {key: value for key, value in GOOD.items() if key != name})
        with pytest.raises(ValueError, match=f"has no '{name}'"):
            read_segmentations(path)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background", "1": "liver", "1": "tumour"}}')
    with pytest.raises(ValueError, match=r"dataset\.json must be JSON \('1' stands twice in one object\)"):
        read_dataset_json(tmp_path / "dataset.json")


@pytest.mark.parametrize("voxels", [None, 3, [1], {"1": 1.5}, {"one": 2}, {"1": True}])
def test_voxels_that_no_import_has_written_are_to_be_counted(tmp_path: Path, voxels: Any) -> None:
    entries = [entry | {"voxels": voxels} for entry in GOOD["training"]]
    assert read_segmentations(write(tmp_path, GOOD | {"training": entries})).entries[0].voxels is None


def mutate(value: Any, draw: random.Random) -> Any:
    """Return JSON with one of its parts replaced, dropped or wrapped."""
    strange: list[Any] = [
        None,
        True,
        1.5,
        -1,
        10**30,
        "",
        "\ud800",
        "a" * 5000,
        "/",
        "..",
        [],
        [[]],
        {},
        {"0": None},
        "case",
    ]
    if isinstance(value, dict) and value and draw.random() < 0.8:
        key = draw.choice(list(value))
        if draw.random() < 0.15:
            return {other: part for other, part in value.items() if other != key}
        if draw.random() < 0.15:
            return {("x" if other == key else other): part for other, part in value.items()}
        return {**value, key: mutate(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        index = draw.randrange(len(value))
        return [*value[:index], mutate(value[index], draw), *value[index + 1 :]]
    return draw.choice([*strange, [value], {"0": value}])


def test_any_content_is_read_or_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    draw, path, lines = random.Random(0), tmp_path / "dataset.json", []
    for _ in range(2000):
        path.write_text(json.dumps(mutate(mutate(GOOD, draw), draw)))
        try:
            assert isinstance(read_segmentations(path), SegmentationList)
        except ValueError as error:
            lines.append(str(error))
    assert 500 < len(lines) < 2000
    assert all(line.startswith(str(path)) and "\n" not in line for line in lines)
    assert max(map(len, lines)) < 400 + len(str(path))


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_that_differ_in_the_form_of_unicode_alone_are_one_file(tmp_path: Path, listed: str, stored: str) -> None:
    file = tmp_path / normalize(stored, "Müller") / normalize(stored, "Möhre 1.nii.gz")
    file.parent.mkdir()
    file.touch()
    assert path_on_disk(tmp_path / normalize(listed, "Müller") / normalize(listed, "Möhre 1.nii.gz")) == file
    assert not path_on_disk(tmp_path / "Müller" / "Mohre 1.nii.gz").exists()
