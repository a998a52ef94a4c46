from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from med3d_components.prepare.visceral import import_visceral

CT, MR = "10000100_1_CTce_ThAb", "10000301_1_MRT1_wb"
ABDOMEN, WHOLE = "10000067_1_MRT1cefs_Ab", "10000005_1_CT_wb"
RIGHT, LEFT, LIVER = 1302, 1326, 58


def lung(structure: int) -> NDArray[np.uint8]:
    mask = np.zeros((8, 6, 5), np.uint8)
    mask[slice(1, 3) if structure == RIGHT else slice(5, 7), 1:5, 1:4] = 1
    return mask


def save(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.5, 1.5, 3, 1])), path)


def write(source: Path, name: str, *outlined: tuple[int, int], scale: int = 1) -> None:
    """Write a volume, and a segmentation per (structure, annotator)."""
    save(source / "Volumes" / f"{name}.nii.gz", np.arange(240, dtype=np.int16).reshape(8, 6, 5))
    for structure, annotator in outlined:
        path = source / "Segmentations" / f"{name}_{structure}_{annotator}.nii.gz"
        save(path, lung(structure) * np.uint8(scale))


@pytest.mark.parametrize(("sides", "classes"), [(True, ["right lung", "left lung"]), (False, ["lung"])])
def test_both_lungs_become_one_label(tmp_path: Path, sides: bool, classes: list[str]) -> None:
    write(tmp_path / "raw", CT, (RIGHT, 7), (LEFT, 7), (LIVER, 7))
    write(tmp_path / "raw" / "more", MR, (RIGHT, 2), (LEFT, 4), scale=255)
    assert import_visceral(tmp_path / "raw", tmp_path / "Lungs", sides)
    dataset = json.loads((tmp_path / "Lungs" / "dataset.json").read_text(encoding="utf-8"))
    assert list(dataset["labels"].values()) == ["background", *classes]
    assert "not for redistribution" in dataset["licence"]
    assert dataset["reference"] == "VISCERAL Anatomy3"
    for name in (CT, MR):
        label = nib.load(tmp_path / "Lungs" / "labelsTr" / f"{name}.nii.gz").dataobj
        np.testing.assert_array_equal(label, lung(RIGHT) + len(classes) * lung(LEFT))
    assert not import_visceral(tmp_path / "raw", tmp_path / "Lungs", sides)


def test_a_volume_without_both_lungs_is_skipped_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "raw", CT, (RIGHT, 7), (LEFT, 7))
    write(tmp_path / "raw", ABDOMEN, (LIVER, 7))
    write(tmp_path / "raw", WHOLE, (LEFT, 7))
    import_visceral(tmp_path / "raw", tmp_path / "Lungs")
    out = capsys.readouterr().out
    assert f"{ABDOMEN} is skipped: its right lung and its left lung are not outlined." in out
    assert f"{WHOLE} is skipped: its right lung is not outlined." in out
    assert [path.name for path in (tmp_path / "Lungs" / "imagesTr").iterdir()] == [f"{CT}.nii.gz"]


def test_the_lowest_of_several_annotators_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "raw", CT, (RIGHT, 10), (RIGHT, 9), (LEFT, 10))
    save(tmp_path / "raw" / "Segmentations" / f"{CT}_{RIGHT}_10.nii.gz", np.zeros((8, 6, 5), np.uint8))
    import_visceral(tmp_path / "raw", tmp_path / "Lungs")
    assert f"{CT}: annotators 9, 10 outlined the right lung; that of 9 is taken." in capsys.readouterr().out
    label = np.asarray(nib.load(tmp_path / "Lungs" / "labelsTr" / f"{CT}.nii.gz").dataobj)
    assert set(np.unique(label)) == {0, 1, 2}


def test_no_lungs_at_all_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "raw", ABDOMEN, (LIVER, 7))
    with pytest.raises(ValueError, match=r"No volume in .*raw has both lungs outlined"):
        import_visceral(tmp_path / "raw", tmp_path / "Lungs")
    with pytest.raises(FileNotFoundError, match="give the folder of the unpacked download"):
        import_visceral(tmp_path / "nowhere", tmp_path / "Lungs")


def test_a_segmentation_without_its_volume_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "raw", CT, (RIGHT, 7), (LEFT, 7))
    (tmp_path / "raw" / "Volumes" / f"{CT}.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=f"The lungs of {CT} are outlined, but there is no {CT}.nii.gz"):
        import_visceral(tmp_path / "raw", tmp_path / "Lungs")
