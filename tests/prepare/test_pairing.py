from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from med3d_components.prepare.pairing import find_files, pair_files, pair_folders
from tests.data.dicom_files import write_series


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("image", "label", "case"),
    [
        ("a.nii.gz", "a.nii.gz", "a"),
        ("a.1.nrrd", "a.1.mha", "a.1"),
        ("a.mhd", "a_seg.nii", "a"),
        ("a.nii", "a_label.nrrd", "a"),
        ("a.nii", "a_mask.nii", "a"),
        ("a.nii", "a-label.nrrd", "a"),
        ("a_0000.nii.gz", "a.nii.gz", "a"),
        ("a_0000.nii.gz", "a_seg.nii.gz", "a"),
        ("a_0000.nii.gz", "a_0000.nii.gz", "a_0000"),
        ("a_0000.nii.gz", "a_0000_seg.nii.gz", "a_0000"),
        ("a_mask.nii.gz", "a_mask.nii.gz", "a_mask"),
    ],
)
def test_a_label_is_found_by_the_name_of_its_image(tmp_path: Path, image: str, label: str, case: str) -> None:
    images, labels = touch(tmp_path / "images", image), touch(tmp_path / "labels", label)
    assert pair_folders(images, labels) == {case: (images / image, labels / label)}


def test_names_that_differ_in_unicodes_form_alone_are_pairs(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "M\u00fcller") for form in ("NFC", "NFD"))
    images = touch(tmp_path / "images", f"{other}_0000.nii.gz")
    assert list(pair_folders(images, touch(tmp_path / "labels", f"{one}_seg.nii.gz"))) == [one]


def test_a_dicom_series_has_the_name_of_its_folder(tmp_path: Path) -> None:
    for patient in ("patient.7", "p::1"):
        write_series(tmp_path / "images" / patient, np.zeros((3, 4, 2)), np.eye(4))
    labels = touch(tmp_path / "labels", "patient.7_seg.nii.gz", "p::1.seg.nrrd")
    assert sorted(pair_folders(tmp_path / "images", labels)) == ["p::1", "patient.7"]


def test_a_series_alone_below_a_patients_folder_has_the_patients_name(tmp_path: Path) -> None:
    write_series(tmp_path / "images" / "P1" / "study" / "1.2.3", np.zeros((3, 4, 2)), np.eye(4))
    for name in ("a", "b"):
        write_series(tmp_path / "images" / "P2" / name, np.zeros((3, 4, 2)), np.eye(4))
    labels = touch(tmp_path / "labels" / "P2", "a_seg.nii", "b.nii").parent
    touch(labels, "P1.nii.gz")
    assert sorted(pair_folders(tmp_path / "images", labels)) == ["P1", "P2/a", "P2/b"]


@pytest.mark.parametrize(
    ("images", "labels", "alone"),
    [(("a.nii", "b.nii"), ("a.nii",), "b.nii"), (("a.nii",), ("a.nii", "b_seg.nii"), "b_seg.nii")],
)
def test_a_file_without_partner_is_named(tmp_path: Path, images: list[str], labels: list[str], alone: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{alone} has no partner in .*; add it, or move the file"):
        pair_folders(touch(tmp_path / "images", *images), touch(tmp_path / "labels", *labels))


def test_a_second_channel_of_nnunet_is_not_dropped_in_silence(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a_0000.nii.gz", "a_0001.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"a_0001.nii.gz has no partner"):
        pair_folders(images, touch(tmp_path / "labels", "a.nii.gz"))


def test_two_labels_of_one_image_are_refused(tmp_path: Path) -> None:
    labels = touch(tmp_path / "labels", "a.nii", "a_seg.nii")
    with pytest.raises(ValueError, match=r"a_seg.nii and .*a.nii are both case a; move one out"):
        pair_folders(touch(tmp_path / "images", "a.nii"), labels)


def test_images_and_labels_in_one_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is given for images and labels; put the two into folders of their own"):
        pair_folders(tmp_path, tmp_path / "." / "")


def test_files_are_found_at_any_depth_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    touch(tmp_path / "b", "v-9.nii", "v-10.nii", "._v-1.nii")
    touch(tmp_path / "a", "v-100.nii")
    (tmp_path / "v-5.nii").mkdir()
    assert [path.name for path in find_files(tmp_path, "v-*.nii")] == ["v-9.nii", "v-10.nii", "v-100.nii"]
    with pytest.raises(FileNotFoundError, match=r"There is no w-\*.nii in .* or below"):
        find_files(tmp_path, "w-*.nii")


def test_files_are_paired_by_pattern_and_name(tmp_path: Path) -> None:
    for case in ("A", "B"):
        touch(tmp_path / case, "ct.nrrd", "liver.nrrd")
    pairs = pair_files(tmp_path, "ct.nrrd", "liver.nrrd", lambda path: path.parent.name)
    assert pairs == {case: (tmp_path / case / "ct.nrrd", tmp_path / case / "liver.nrrd") for case in ("A", "B")}
