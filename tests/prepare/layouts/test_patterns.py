from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from med3d_components.prepare.layouts import LabelSource, read_table
from med3d_components.prepare.layouts.patterns import organ_masks, pattern_layout


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_pattern_names_the_case_wherever_it_comes(tmp_path: Path) -> None:
    touch(
        tmp_path, "P1/scan 1/ct.nii.gz", "P1/P1-liver.mha", "P2/scan 7/ct.nii.gz", "P2/P2-liver.mha", "P2/P1-liver.mha"
    )
    layout = pattern_layout(f"{tmp_path}/{{case}}/scan */ct.nii.gz", f"{tmp_path}/{{case}}/{{case}}-liver.mha")
    assert list(layout.cases) == ["P1", "P2"]
    assert layout.cases["P2"].images == (tmp_path / "P2/scan 7/ct.nii.gz",)
    assert layout.cases["P2"].labels == (LabelSource(tmp_path / "P2/P2-liver.mha"),)


def test_a_pattern_may_match_folders_of_a_dicom_series(tmp_path: Path) -> None:
    touch(tmp_path, "P1/dicom/1.dcm", "P1/a.seg.nrrd")
    layout = pattern_layout(f"{tmp_path}/{{case}}/dicom", f"{tmp_path}/{{case}}/*.seg.nrrd")
    assert layout.cases["P1"].images == (tmp_path / "P1/dicom",)


def test_a_mask_for_each_class_is_named_by_it_whatever_underscores_there_are(tmp_path: Path) -> None:
    touch(tmp_path, "a_1.nii", "m/a_1_left_kidney.nii", "m/a_1_liver.nii", "a.nii", "m/a_liver.nii")
    layout = pattern_layout(f"{tmp_path}/{{case}}.nii", f"{tmp_path}/m/{{case}}_{{class}}.nii")
    assert {case: [label.name for label in files.labels] for case, files in layout.cases.items()} == {
        "a": ["liver"],
        "a_1": ["left_kidney", "liver"],
    }


def test_labels_in_the_folder_of_their_images_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "a_seg.nii")
    layout = pattern_layout(f"{tmp_path}/{{case}}.nii", f"{tmp_path}/{{case}}_seg.nii")
    assert list(layout.cases) == ["a"]


def test_patterns_and_files_in_two_of_unicodes_forms_are_pairs(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "M\u00fcller") for form in ("NFC", "NFD"))
    touch(tmp_path, f"{one}/ct.nii", f"{other}.nii")
    assert list(pattern_layout(f"{tmp_path}/{{case}}/ct.nii", f"{tmp_path}/{{case}}.nii").cases) == [one]


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        ("ct.nii", "{case}.nii", "The pattern .*/ct.nii has no {case}"),
        ("{case}/{class}.nii", "{case}.nii", "The pattern of the images, .* has a {class}"),
        ("{case}/mr.nii", "{case}/seg.nii", "Nothing matches .*{case}/mr.nii"),
        ("{case}/ct.nii", "{case}/seg.nii", "There is no .*b/seg.nii; add it, or move the other files of the case b"),
        ("{case}/*.nii", "{case}/seg.nii", "a/ct.nii match .* for one case|a/seg.nii and .* for one case"),
    ],
)
def test_a_pattern_that_does_not_fit_the_files_gets_one_line(
    tmp_path: Path, images: str, labels: str, reason: str
) -> None:
    touch(tmp_path, "a/ct.nii", "a/seg.nii", "b/ct.nii", "c.nii")
    with pytest.raises((FileNotFoundError, ValueError), match=reason):
        pattern_layout(f"{tmp_path}/{images}", f"{tmp_path}/{labels}")


def test_one_image_may_have_a_folder_of_masks(tmp_path: Path) -> None:
    touch(
        tmp_path, "ct.nii.gz", "masks/liver.nii.gz", "masks/left kidney.nrrd", "masks/note.txt", "masks/._liver.nii.gz"
    )
    ((name, case),) = organ_masks(tmp_path / "ct.nii.gz", tmp_path / "masks").cases.items()
    assert (name, [label.name for label in case.labels]) == ("ct", ["left kidney", "liver"])


@pytest.mark.parametrize(
    "text",
    [
        "image,label,case\nx/1.nii,y/2.nii,one\nx/3.nii,y/4.nii,two\n",
        "\ufeffCase; Image ;label;age\r\none;x/1.nii;y/2.nii;7\r\ntwo;x/3.nii;y/4.nii;8\r\n",
        "label\timage\tcase\ny/2.nii\tx/1.nii\tone\ny/4.nii\tx/3.nii\ttwo",
    ],
)
def test_a_table_pairs_files_whose_names_differ(tmp_path: Path, text: str) -> None:
    touch(tmp_path, "x/1.nii", "y/2.nii", "x/3.nii", "y/4.nii")
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8", newline="")
    layout = read_table(tmp_path / "pairs.csv")
    assert {case: (files.images, files.labels) for case, files in layout.cases.items()} == {
        "one": ((tmp_path / "x/1.nii",), (LabelSource(tmp_path / "y/2.nii"),)),
        "two": ((tmp_path / "x/3.nii",), (LabelSource(tmp_path / "y/4.nii"),)),
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "has no column image and no column label"),
        (b"image,mask\n", "has no column label; its first line must name them"),
        (b"image,label\n", "has no row"),
        (b"image,label\na.nii,\n", "line 2: image or label is empty"),
        (b"image,label\na.nii,b.nii\n", "b.nii does not exist, but .*pairs.csv, line 2 names it"),
        (b"image,label\na.nii,a.nii\nx/a.nii,a.nii\n", "line 3: there is another case a; give names in a column case"),
        ("image,label\nM\u00fcller.nii,a.nii\n".encode("latin-1"), "is not encoded in UTF-8"),
    ],
)
def test_a_table_that_is_not_clear_gets_one_line(tmp_path: Path, text: bytes, reason: str) -> None:
    touch(tmp_path, "a.nii", "x/a.nii")
    (tmp_path / "pairs.csv").write_bytes(text)
    with pytest.raises((FileNotFoundError, ValueError), match=reason):
        read_table(tmp_path / "pairs.csv")
