"""An import that is run again takes what was corrected, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from med3d_components.data.dataset_json import read_dataset_json
from med3d_components.data.domains import DomainFacts
from med3d_components.prepare import importing
from med3d_components.prepare.importing import import_domain
from med3d_components.utils import write_json
from tests.data.dicom_files import write_series

FACTS = DomainFacts("CT", "lung", ("background", "lung"), "a test", "none")
AFFINE = np.diag([-0.7, -0.8, 2.5, 1])


def write(source: Path, name: str, size: int = 2) -> None:
    """Write a case whose label is a box of so many voxels along the first axis."""
    seed = sum(map(ord, name))
    image = np.random.default_rng(seed).integers(-1000, 900, (6, 8, 5)).astype(np.int16)
    label = np.zeros((6, 8, 5), np.uint8)
    label[:size, 2:4, 1:3] = 1
    for part, array in (("image", image), ("label", label)):
        (source / part).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, AFFINE), source / part / f"{name}.nii.gz")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in "abc":
        write(tmp_path / "source", name)
    return tmp_path / "source"


def run(source: Path, facts: DomainFacts = FACTS, values: tuple[int, int] = (0, 1)) -> bool:
    names = sorted(path.name.removesuffix(".nii.gz") for path in (source / "label").iterdir())
    pairs = {name: (source / "image" / f"{name}.nii.gz", source / "label" / f"{name}.nii.gz") for name in names}
    return import_domain(source.parent / "Lung", facts, pairs, dict(enumerate(values)))


def voxels(source: Path, name: str) -> int:
    """Return the voxels of a written label, which must be those that its entry tells."""
    folder = source.parent / "Lung"
    entries = {Path(entry["label"]).name: entry for entry in read_dataset_json(folder / "dataset.json")["training"]}
    found = int((np.asarray(nib.load(folder / "labelsTr" / f"{name}.nii.gz").dataobj) == 1).sum())
    assert entries[f"{name}.nii.gz"]["voxels"].get("1", 0) == found
    return found


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_mended_label_is_renewed_and_a_new_case_added(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(source)
    before = contents(source.parent / "Lung")
    assert capsys.readouterr().out == ""
    write(source, "b", size=5)
    write(source, "d", size=3)
    assert run(source)
    assert capsys.readouterr().out == "Renewed, since files or the choice of classes have changed: b.\nNew: d.\n"
    assert [voxels(source, name) for name in "abcd"] == [8, 20, 8, 12]
    after = contents(source.parent / "Lung")
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"dataset.json", "labelsTr/b.nii.gz", "imagesTr/d.nii.gz", "labelsTr/d.nii.gz"}
    assert not run(source)
    assert [path.name for path in sorted(source.parent.iterdir())] == ["Lung", "source"]


def test_the_folder_is_the_same_as_if_it_had_been_imported_in_one_go(source: Path, tmp_path: Path) -> None:
    run(source)
    write(source, "b", size=5)
    write(source, "d")
    run(source)
    renewed = contents(tmp_path / "Lung")
    (tmp_path / "Lung").rename(tmp_path / "earlier")
    run(source)
    assert contents(tmp_path / "Lung") == renewed


def test_equal_contents_elsewhere_or_younger_are_no_change(source: Path) -> None:
    run(source)
    for path in source.rglob("*.nii.gz"):
        path.write_bytes(path.read_bytes())
    assert not run(source)
    moved = source.rename(source.with_name("moved"))
    assert not run(moved)


def test_a_case_without_a_source_is_named_and_stays(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(source)
    (source / "label" / "b.nii.gz").unlink()
    for _ in range(2):
        assert not run(source)
        assert capsys.readouterr().out == "Without a source now, and kept as imported before: b.\n"
    write(source, "c", size=4)
    assert run(source)
    assert [voxels(source, name) for name in "abc"] == [8, 8, 16]


def test_a_value_that_stands_for_another_class_renews_every_case(source: Path) -> None:
    run(source)
    assert run(source, values=(0, 0))
    assert [voxels(source, name) for name in "abc"] == [0, 0, 0]


def test_other_classes_are_refused(source: Path) -> None:
    run(source)
    before = contents(source.parent / "Lung")
    with pytest.raises(FileExistsError, match="its classes are background, lung, not background, left, right"):
        run(source, DomainFacts("CT", "lung", ("background", "left", "right"), "", ""))
    assert contents(source.parent / "Lung") == before


def test_a_deleted_file_is_written_again(source: Path) -> None:
    run(source)
    (source.parent / "Lung" / "labelsTr" / "b.nii.gz").unlink()
    assert run(source)
    assert voxels(source, "b") == 8


@pytest.mark.parametrize("part", ["imagesTr", "labelsTr"])
def test_a_file_that_was_edited_since_is_never_overwritten(source: Path, part: str) -> None:
    run(source)
    edited = source.parent / "Lung" / part / "b.nii.gz"
    edited.write_bytes((source / "label" / "c.nii.gz").read_bytes() + b"\0")
    before = contents(source.parent)
    assert not run(source)  # nothing would be written
    write(source, "b", size=5)
    before |= {f"source/label/{name}": (source / "label" / name).read_bytes() for name in ("b.nii.gz",)}
    with pytest.raises(
        FileExistsError, match=rf"{part}/b\.nii\.gz is not as it was imported, so that it is not overwr"
    ):
        run(source)
    assert contents(source.parent) == before
    edited.unlink()
    assert run(source)
    assert voxels(source, "b") == 20


def test_a_file_of_somebody_else_is_never_overwritten(source: Path) -> None:
    run(source)
    mine = source.parent / "Lung" / "labelsTr" / "d.nii.gz"
    mine.write_bytes(b"years of work")
    write(source, "d")
    with pytest.raises(FileExistsError, match=r"d\.nii\.gz is there, but dataset\.json does not list it"):
        run(source)
    assert mine.read_bytes() == b"years of work"


def test_what_was_added_to_the_list_stays(source: Path) -> None:
    run(source)
    path = source.parent / "Lung" / "dataset.json"
    write_json(path, {**read_dataset_json(path), "channel": 0, "note": "mine"})
    (path.parent / "notes.txt").write_text("mine")
    write(source, "b", size=5)
    assert run(source)
    assert {"channel": 0, "note": "mine"}.items() <= read_dataset_json(path).items()
    assert (path.parent / "notes.txt").read_text() == "mine"


def test_classes_made_of_other_values_do_not_meet_cases_that_cannot_be_made_anew(source: Path) -> None:
    run(source)
    before = contents(source.parent / "Lung")
    for part in ("image", "label"):
        (source / part / "c.nii.gz").unlink()
    with pytest.raises(FileExistsError, match=r"made of other label values, and c has no source to be made anew"):
        run(source, values=(1, 0))
    assert contents(source.parent / "Lung") == before


class Stop(KeyboardInterrupt):
    """What a user does who has seen a mistake."""


def stop_at(monkeypatch: pytest.MonkeyPatch, stopped: str) -> list[str]:
    """Interrupt the import at a case; return the cases that are read, by name."""
    read: list[str] = []
    write_one = importing._write

    def noted(staging: Path, name: str, *others: object) -> dict[str, object]:
        if name == stopped:
            raise Stop
        read.append(name)
        return write_one(staging, name, *others)

    monkeypatch.setattr(importing, "_write", noted)
    return read


def test_an_interrupted_import_goes_on_with_what_is_still_right(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, "c")
        with pytest.raises(Stop):
            run(source)
    assert not (source.parent / "Lung").exists()
    write(source, "a", size=5)  # mended meanwhile
    (source / "label" / "d.nii.gz").write_bytes((source / "label" / "b.nii.gz").read_bytes())
    (source / "image" / "d.nii.gz").write_bytes((source / "image" / "b.nii.gz").read_bytes())
    read = stop_at(monkeypatch, "none")
    assert run(source)
    assert read == ["a", "c", "d"]
    assert [voxels(source, name) for name in "abcd"] == [20, 8, 8, 8]
    assert [path.name for path in sorted(source.parent.iterdir())] == ["Lung", "source"]


def test_what_an_interrupted_import_has_of_a_dropped_case_does_not_come_along(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, "c")
        with pytest.raises(Stop):
            run(source)
    (source / "label" / "a.nii.gz").unlink()
    assert run(source)
    assert sorted(contents(source.parent / "Lung")) == sorted(
        ["dataset.json", *(f"{part}/{name}.nii.gz" for part in ("imagesTr", "labelsTr") for name in "bc")]
    )


def test_an_interrupted_renewal_leaves_the_folder_as_it_was(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(source)
    before = contents(source.parent / "Lung")
    for name in "abc":
        write(source, name, size=5)
    with monkeypatch.context() as patch:
        stop_at(patch, "b")
        with pytest.raises(Stop):
            run(source)
    assert contents(source.parent / "Lung") == before
    read = stop_at(monkeypatch, "none")
    assert run(source)
    assert read == ["b", "c"]
    assert [voxels(source, name) for name in "abc"] == [20, 20, 20]


@pytest.mark.parametrize("moves", range(1, 7))
@pytest.mark.parametrize("again", [False, True], ids=["", "mended again"])
def test_a_renewal_that_is_killed_while_files_are_moved_is_finished_by_the_next(
    source: Path, monkeypatch: pytest.MonkeyPatch, moves: int, again: bool
) -> None:
    run(source)
    for name in "abc":
        write(source, name, size=5)
    replace, done = Path.replace, []

    def killed(path: Path, target: Path) -> Path:
        if "Lung" in Path(target).parts and ".partial" not in str(target):
            done.append(target)
            if len(done) > moves:
                raise Stop
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(Stop):
            run(source)
    if again:
        write(source, "a", size=3)
    assert run(source)
    assert [voxels(source, name) for name in "abc"] == [12 if again else 20, 20, 20]
    assert not run(source)


def test_a_folder_of_another_version_or_program_is_left_alone(source: Path) -> None:
    run(source)
    path = source.parent / "Lung" / "dataset.json"
    content = read_dataset_json(path)
    for entry in content["training"]:
        del entry["source"], entry["written"]
    path.write_text(json.dumps(content))
    before = contents(path.parent)
    with pytest.raises(FileExistsError, match="Lung already holds other data"):
        run(source)
    assert contents(path.parent) == before


def test_one_slice_of_a_series_that_changes_renews_its_case(tmp_path: Path) -> None:
    def import_it() -> bool:
        pair = tmp_path / "series", tmp_path / "source" / "label" / "a.nii.gz"
        return import_domain(tmp_path / "Lung", FACTS, {"a": pair}, {0: 0, 1: 1})

    write(tmp_path / "source", "a")
    image = np.zeros((6, 8, 5), np.int16)
    write_series(tmp_path / "series", image, AFFINE)
    assert import_it()
    assert not import_it()
    image[3, 3, 3] = 7
    shutil.rmtree(tmp_path / "series")
    write_series(tmp_path / "series", image, AFFINE)
    assert import_it()
    assert nib.load(tmp_path / "Lung" / "imagesTr" / "a.nii.gz").get_fdata().max() == 7
