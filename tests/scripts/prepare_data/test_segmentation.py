from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from tests.scripts.prepare_data.conftest import last_line, mask, volume

AFFINE = np.diag([-0.8, 0.8, 2.5, 1])


def write_pairs(folder, values=((1,), (1, 2))):
    """Write a pair per case; its label has a box of each of the case's values."""
    for case, found in enumerate(values):
        label = mask(value=0).astype(np.int16)
        for index, value in enumerate(found):
            label[2:4, 2:6, index] = value
        for part, array in (("images", volume()), ("labels", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, AFFINE), folder / part / f"case_{case}.nii.gz")
    return "--images", folder / "images", "--labels", folder / "labels"


def read(folder):
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("classes", ["background,liver,cancer", "['background', 'liver', 'cancer']"])
def test_the_named_classes_are_written_in_the_order_of_their_values(run, tmp_path, classes):
    pairs = write_pairs(tmp_path)
    code, out, err = run("segmentation", *pairs, "--out", tmp_path / "Liver", "--classes", classes)
    assert code == 0, err
    assert f"{tmp_path / 'Liver'} is written" in out
    assert "Label value 2 is written as 2: cancer." in out
    assert read(tmp_path / "Liver")["labels"] == {"0": "background", "1": "liver", "2": "cancer"}
    for case in (0, 1):
        before, after = tmp_path / "labels", tmp_path / "Liver" / "labelsTr"
        images = [nib.load(folder / f"case_{case}.nii.gz") for folder in (before, after)]
        np.testing.assert_array_equal(images[0].dataobj, images[1].dataobj)
        np.testing.assert_allclose(images[0].affine, images[1].affine)


def test_names_of_several_words_are_taken(run, tmp_path):
    pairs = write_pairs(tmp_path)
    code, _, err = run("segmentation", *pairs, "--out", tmp_path / "L", "--classes=background, right lung, left lung")
    assert code == 0, err
    assert list(read(tmp_path / "L")["labels"].values()) == ["background", "right lung", "left lung"]


def test_without_names_the_values_become_classes_and_gaps_are_closed(run, tmp_path):
    pairs = write_pairs(tmp_path, ((7,), (500, 3)))
    code, out, err = run("segmentation", *pairs, "--out", tmp_path / "Own")
    assert code == 0, err
    assert read(tmp_path / "Own")["labels"] == {"0": "background", "1": "class 3", "2": "class 7", "3": "class 500"}
    assert out.splitlines()[1:5] == [
        "Label value 3 is written as 1: class 3.",
        "Label value 7 is written as 2: class 7.",
        "Label value 500 is written as 3: class 500.",
        f"{tmp_path / 'Own'} is written.",
    ]
    label = np.asarray(nib.load(tmp_path / "Own" / "labelsTr" / "case_1.nii.gz").dataobj)
    assert (label[3, 3, 0], label[3, 3, 1], label[3, 3, 2]) == (3, 1, 0)


def test_a_value_without_a_name_is_an_error_that_names_the_file(run, tmp_path):
    pairs = write_pairs(tmp_path, ((1,), (2,)))
    code, _, err = run("segmentation", *pairs, "--out", tmp_path / "Own", "--classes", "background,liver")
    assert code == 1
    assert "labels/case_1.nii.gz has the values [2], but should have [0, 1]" in last_line(err)
    assert not (tmp_path / "Own").exists()


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        ("liver", "No label has 'liver'; there is 1, 2; name them, or rename them as in organ=1."),
        ("background", "--classes names the background alone; add a class"),
        ("liver,background", "'background' is not clear; give each class once"),
        ("background,liver,liver", "'liver' is not clear; give each class once"),
        ("3", "No label has '3'; there is 1, 2; name them"),
    ],
)
def test_senseless_class_names_are_refused(run, tmp_path, classes, reason):
    pairs = write_pairs(tmp_path)
    code, _, err = run("segmentation", *pairs, "--out", tmp_path / "Own", "--classes", classes)
    assert code == 1
    assert reason in last_line(err)
    assert not (tmp_path / "Own").exists()


def test_labels_of_background_alone_are_refused(run, tmp_path):
    code, _, err = run("segmentation", *write_pairs(tmp_path, ((), ())), "--out", tmp_path / "Own")
    assert code == 1
    assert last_line(err).startswith("error: The labels have no value but 0")


def test_the_same_again_does_nothing_and_other_classes_are_refused(run, tmp_path):
    command = ("segmentation", *write_pairs(tmp_path), "--out", tmp_path / "Own", "--classes")
    run(*command, "background,a,b")
    assert "is already there" in run(*command, "background,a,b")[1]
    code, _, err = run(*command, "background,b,a")
    assert code == 1
    assert "already holds other data" in err
