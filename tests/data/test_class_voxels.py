from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from med3d_components.data import MultiDomainDatalist, SegmentationDatalist, class_voxels
from med3d_components.data.labelled import read_domain
from med3d_components.data.labels import count_voxels
from tests.conftest import MakeDomain


def outline(folder: Path, case: int, *boxes: int) -> None:
    """Write the label of a case anew: a slab for each value."""
    label = np.zeros((24, 28, 20), np.uint8)
    for index, value in enumerate(boxes):
        label[2 * index : 2 * index + 2] = value
    path = folder / "labelsTr" / f"case_{case}.nii.gz"
    nib.save(nib.Nifti1Image(label, np.eye(4)), path)


def voxels(folder: Path) -> list[dict[int, int]]:
    return [{value: n for value, n in case.voxels.items() if value} for case in read_domain(folder).cases]


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []

    def noted(path: Path, num_classes: int) -> dict[int, int]:
        read.append(Path(path).name)
        return count_voxels(path, num_classes)

    monkeypatch.setattr(class_voxels, "count_voxels", noted)
    return read


def test_labels_are_read_once_and_again_where_they_change(
    tmp_path: Path, make_domain: MakeDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read = make_domain(tmp_path / "ct"), count_reads(monkeypatch)
    first = voxels(folder)
    expected = [
        int((np.asarray(nib.load(path).dataobj) == 1).sum()) for path in sorted((folder / "labelsTr").iterdir())
    ]
    assert first == [{1: number} for number in expected]
    assert sorted(read) == [f"case_{case}.nii.gz" for case in range(4)]
    assert voxels(folder) == first
    assert len(read) == 4
    outline(folder, 2, 1, 1)
    assert voxels(folder)[2] == {1: 2 * 2 * 28 * 20}
    assert read[4:] == ["case_2.nii.gz"]


def test_what_an_import_has_counted_is_taken_for_the_labels_that_it_has_written(
    tmp_path: Path, make_domain: MakeDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read = make_domain(tmp_path / "ct"), count_reads(monkeypatch)
    path = folder / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    digests = [hashlib.sha256((folder / entry["label"]).read_bytes()).hexdigest() for entry in content["training"]]
    digests[1] = digests[0].translate(str.maketrans("0123456789", "1234567890"))
    known = zip(content["training"], digests, strict=True)
    training = [entry | {"voxels": {"1": 77}, "written": {"label": digest}} for entry, digest in known]
    del training[2]["written"]
    path.write_text(json.dumps(content | {"training": training}))
    assert voxels(folder) == [{1: 77}, {1: 1000}, {1: 1000}, {1: 77}]
    assert sorted(read) == ["case_1.nii.gz", "case_2.nii.gz"]


def test_a_label_put_in_its_place_with_size_and_time_kept_is_counted_anew(
    tmp_path: Path, make_domain: MakeDomain
) -> None:
    folder = make_domain(tmp_path / "ct")
    label = folder / "labelsTr" / "case_1.nii.gz"
    assert voxels(folder)[1] == {1: 1000}
    before, old = label.stat(), nib.load(label)
    nib.save(nib.Nifti1Image(np.zeros(old.shape, np.uint8), old.affine), label)
    with label.open("ab") as file:
        file.write(bytes(before.st_size - label.stat().st_size))
    os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (label.stat().st_size, label.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert voxels(folder)[1] == {}


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"x": 3}', '{"x": {"a": "b"}}'])
def test_a_damaged_count_is_made_anew(tmp_path: Path, make_domain: MakeDomain, kept: str) -> None:
    folder = make_domain(tmp_path / "ct")
    (folder / class_voxels.KEPT).write_text(kept)
    assert voxels(folder) == [{1: 1000}] * 4


def test_a_folder_that_cannot_be_written_is_counted_each_time(
    tmp_path: Path, make_domain: MakeDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: Any) -> None:
        raise PermissionError(path)

    folder, read = make_domain(tmp_path / "ct"), count_reads(monkeypatch)
    monkeypatch.setattr("med3d_components.data.kept.write_json", refuse)
    assert voxels(folder) == voxels(folder) == [{1: 1000}] * 4
    assert len(read) == 8


def test_a_value_that_is_not_declared_is_named_before_training(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "ct")
    outline(folder, 3, 1, 7)
    for _ in range(2):  # also when it was counted before
        with pytest.raises(
            ValueError, match=r"case_3\.nii\.gz holds the values 0, 1, 7, but dataset\.json declares 0 to"
        ):
            SegmentationDatalist(folder)


def test_labels_without_foreground_are_refused_where_they_train_and_said_where_they_validate(
    tmp_path: Path, make_domain: MakeDomain, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_domain(tmp_path / "ct")
    with caplog.at_level(logging.WARNING):
        datalist = SegmentationDatalist(folder)
    assert not caplog.records
    for name in datalist.split["validation"]:
        outline(folder, int(name[-1]))
    with caplog.at_level(logging.WARNING):
        SegmentationDatalist(folder)
    assert "No validation label of ct has a voxel of any class: nothing can be scored" in caplog.text
    for name in datalist.split["training"]:
        outline(folder, int(name[-1]))
    with pytest.raises(ValueError, match=r"No training label of ct has a voxel of class 1; give labels that outline"):
        MultiDomainDatalist(tmp_path)


def test_a_declared_class_without_a_voxel_is_said(
    tmp_path: Path, make_domain: MakeDomain, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_domain(tmp_path / "ct", classes=4)
    for case in range(4):
        outline(folder, case, 1, 3)
    with caplog.at_level(logging.WARNING):
        datalist = SegmentationDatalist(folder)
    assert "No label of ct has a voxel of 'class 2', which dataset.json declares." in caplog.text
    assert datalist.volumes_ml == {"class 1": [1.12, 1.12], "class 3": [1.12, 1.12]}


def test_one_hot_labels_are_counted_by_class(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "ct", classes=3)
    before = voxels(folder)
    for path in (folder / "labelsTr").iterdir():
        label = np.asarray(nib.load(path).dataobj)
        nib.save(
            nib.Nifti1Image(np.stack([label == value for value in range(3)], -1).astype(np.uint8), np.eye(4)), path
        )
    assert voxels(folder) == before


def test_copies_under_two_names_are_said_but_not_empty_labels(
    tmp_path: Path, make_domain: MakeDomain, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_domain(tmp_path / "ct")
    for case in (0, 1):
        outline(folder, case)
    with caplog.at_level(logging.WARNING):
        read_domain(folder)
    assert "same content" not in caplog.text
    for part in ("imagesTr", "labelsTr"):
        (folder / part / "case_2.nii.gz").write_bytes((folder / part / "case_3.nii.gz").read_bytes())
    with caplog.at_level(logging.WARNING):
        read_domain(folder)
    for part in ("imagesTr", "labelsTr"):
        assert f"{folder / part / 'case_2.nii.gz'} and {folder / part / 'case_3.nii.gz'} have the same" in caplog.text
