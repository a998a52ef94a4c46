from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from med3d_components.prepare.layouts import CaseSource, LabelSource
from med3d_components.prepare.survey import Contents, survey


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def look(folder: Path, *labels: tuple[np.ndarray, str], wanted: tuple[str, ...] = ()) -> Contents:
    image = save(folder / "ct.nii", np.zeros((6, 6, 6), np.int16))
    files = [LabelSource(save(folder / f"{n}.nii", array), name) for n, (array, name) in enumerate(labels)]
    return survey({"a": CaseSource((image,), tuple(files))}, wanted)["a"]


def box(value: float = 1, start: int = 0, stop: int = 3, dtype: type = np.uint8) -> np.ndarray:
    array: np.ndarray = np.zeros((6, 6, 6), dtype)
    array[start:stop, 2:4, 2:4] = value
    return array


def test_values_are_counted_without_background(tmp_path: Path) -> None:
    found = look(tmp_path, (box(7) + box(500, 3, 4, np.int16), ""))
    assert (found.voxels, found.files) == ({7: 12, 500: 4}, [{7: 7, 500: 500}])


def test_masks_have_the_name_of_their_class_and_their_overlaps_are_seen(tmp_path: Path) -> None:
    found = look(tmp_path, (box(255), "liver"), (box(1, 2, 5), "tumour"), (box(0), "spleen"))
    assert found.voxels == {"liver": 12, "tumour": 12, "spleen": 0}
    assert found.files == [{255: "liver"}, {1: "tumour"}, {}]
    assert found.overlaps == {("liver", "tumour")}


def test_names_that_differ_in_capitals_are_one_class_in_all_cases(tmp_path: Path) -> None:
    found = look(tmp_path, (box(), "Liver "), (box(1, 3, 4), "liver"))
    assert found.voxels == {"Liver": 16}


def test_masks_of_other_classes_are_not_read(tmp_path: Path) -> None:
    found = look(tmp_path, (box(), "liver"), (box(), "spleen"), wanted=("LIVER",))
    assert found.files == [{1: "liver"}, None]
    assert not found.overlaps


@pytest.mark.parametrize(
    ("array", "name", "reason"),
    [
        (box(0.5, dtype=np.float32), "", r"0.nii holds the values 0.5, but those of a label are whole"),
        (box(-1, dtype=np.int16), "", r"0.nii has 1 values such as -1; a label has few, and none below 0"),
        (np.arange(2000).reshape(10, 10, 20).astype(np.int16), "", r"0.nii has 1999 values such as 1, 2, .*has few"),
        (box(1) + box(3, 4, 5), "liver", r"0.nii has the values 1, 3, but should be the mask of one class"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path: Path, array: np.ndarray, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        look(tmp_path, (array, name))


def test_a_mask_beside_its_image_is_refused_by_its_case_before_anything_is_written(tmp_path: Path) -> None:
    image = save(tmp_path / "ct.nii", np.zeros((6, 6, 6), np.int16))
    moved = np.eye(4)
    moved[0, 3] = 25
    files = tuple(LabelSource(save(tmp_path / f"{n}.nii", box(1, n, n + 1), moved), f"{n}") for n in range(2))
    with pytest.raises(ValueError, match=r"a: its label .*0.nii lies up to 25 mm off its image"):
        survey({"a": CaseSource((image,), files)})
