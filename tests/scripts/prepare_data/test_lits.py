from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.prepare.decathlon import LabelledScan, write_domain
from tests.scripts.prepare_data.conftest import (
    contents,
    last_line,
    mask,
    volume,
    write_affine,
    write_lits,
    write_spacing,
)

TASK = "Task03_Liver"
AFFINE = np.diag([-0.8, 0.8, 2.5, 1])


def write_msd(folder, numbers, task=TASK, **more):
    """Write a folder like the download of a task, with scans for the test and strays of the packing computer."""
    scans = {
        f"liver_{n}": lambda n=n: LabelledScan(volume().astype(np.int16), mask(value=1 + n % 2), AFFINE)
        for n in numbers
    }
    write_domain(folder, DOMAINS_3DSEG8[task], scans, "", more)
    (folder / "imagesTs").mkdir()
    (folder / "imagesTs" / "liver_132.nii.gz").write_bytes(b"no label")
    (folder / "labelsTr" / "._liver_1.nii.gz").write_bytes(b"stray")


def names(folder):
    return [
        Path(entry["image"]).name
        for entry in json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["training"]
    ]


def batch(tmp_path, number):
    return tmp_path / "raw" / "Training Batch 1" / f"segmentation-{number}.nii"


def test_the_folder_of_the_msd_becomes_what_the_folder_of_lits_becomes(run, tmp_path):
    write_msd(tmp_path / TASK, (10, 9, 100))
    write_lits(tmp_path / "raw", 10, 9, 100)
    before = contents(tmp_path / TASK)
    code, out, err = run("lits", "--source", tmp_path / TASK, "--out", tmp_path / "data")
    assert code == 0, err
    assert f"{tmp_path / TASK} has the layout of the MSD; its 3 training pairs are taken over" in out
    assert f"{tmp_path / 'data' / TASK} is written" in out
    assert contents(tmp_path / TASK) == before
    assert names(tmp_path / "data" / TASK) == ["liver_9.nii.gz", "liver_10.nii.gz", "liver_100.nii.gz"]
    assert "is already there" in run("lits", tmp_path / TASK, tmp_path / "data")[1]

    run("lits", tmp_path / "raw", tmp_path / "other")
    assert names(tmp_path / "other" / TASK) == names(tmp_path / "data" / TASK)
    for part in ("labelsTr/liver_9.nii.gz", "labelsTr/liver_100.nii.gz"):
        assert (tmp_path / "data" / TASK / part).read_bytes() == (tmp_path / "other" / TASK / part).read_bytes()


@pytest.mark.parametrize(("task", "more"), [("Task09_Spleen", {}), (TASK, {"synthetic": {"seed": 0}})])
def test_another_task_and_synthetic_data_are_not_taken_for_livers(run, tmp_path, task, more):
    write_msd(tmp_path / "raw", (1,), task, **more)
    code, _, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 1
    assert last_line(err).startswith(
        f"error: {tmp_path / 'raw'} is not the Task03_Liver of the MSD, with the classes background"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([0.8, 0.8, 2.5, 1]),
        np.diag([-0.8, 0.8, 2.6, 1]),
        AFFINE + np.array([[0, 0, 0, 0.5]] + [[0] * 4] * 3),
    ],
    ids=["flipped", "other spacing", "shifted"],
)
def test_a_segmentation_with_another_header_gets_that_of_its_volume_and_is_named(run, tmp_path, affine):
    write_lits(tmp_path / "raw", 1, 2)
    write_affine(batch(tmp_path, 1), affine)
    before = contents(tmp_path / "raw")
    code, out, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 0, err
    (warning,) = [line for line in out.splitlines() if "differ" in line]
    told = f"{batch(tmp_path, 1)} and volume-1.nii differ in spacing, direction or origin, by up to "
    assert warning.startswith(told)
    assert 0.4 < float(warning.removeprefix(told).split(" mm;")[0]) < 20
    label = nib.load(tmp_path / "data" / TASK / "labelsTr" / "liver_1.nii.gz")
    np.testing.assert_array_equal(label.dataobj, mask(value=2))
    np.testing.assert_allclose(label.affine, AFFINE)
    assert label.get_data_dtype() == np.uint8
    assert contents(tmp_path / "raw") == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == [TASK]
    assert "is already there" in run("lits", tmp_path / "raw", tmp_path / "data")[1]


@pytest.mark.parametrize("turn", ["mirrored", "other order"])
def test_a_segmentation_that_lies_on_its_volume_in_another_orientation_is_turned(run, tmp_path, turn):
    write_lits(tmp_path / "raw", 1, 2)
    stored = nib.load(batch(tmp_path, 1), mmap=False)
    plain = nib.Nifti1Image(np.asarray(stored.dataobj), stored.affine)
    axes = {"mirrored": [[0, -1], [1, 1], [2, -1]], "other order": [[1, 1], [0, -1], [2, -1]]}[turn]
    nib.save(plain.as_reoriented(np.array(axes)), batch(tmp_path, 1))
    code, out, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 0, err
    assert "differ in" not in out
    label = nib.load(tmp_path / "data" / TASK / "labelsTr" / "liver_1.nii.gz")
    np.testing.assert_array_equal(label.dataobj, mask(value=2))
    np.testing.assert_allclose(label.affine, AFFINE, rtol=1e-6)


def test_a_difference_of_rounding_is_not_worth_a_word(run, tmp_path):
    write_lits(tmp_path / "raw", 1, 2)
    write_affine(batch(tmp_path, 1), AFFINE + 1e-4 * np.eye(4) * [1, 1, 1, 0])
    code, out, _ = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 0
    assert "those of the volume are taken" not in out
    label = nib.load(tmp_path / "data" / TASK / "labelsTr" / "liver_1.nii.gz")
    np.testing.assert_allclose(label.affine, AFFINE, rtol=1e-6)


def test_a_segmentation_without_spacing_gets_that_of_its_volume(run, tmp_path):
    write_lits(tmp_path / "raw", 1, 2)
    write_spacing(batch(tmp_path, 1), (0, 0, 0))
    code, out, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 0, err
    assert out.count("those of the volume are taken") == 1
    np.testing.assert_allclose(nib.load(tmp_path / "data" / TASK / "labelsTr" / "liver_1.nii.gz").affine, AFFINE)


def test_volumes_without_spacing_are_all_named_before_anything_is_written(run, tmp_path):
    write_lits(tmp_path / "raw", 1, 2, 3)
    volumes = [batch(tmp_path, number).with_name(f"volume-{number}.nii") for number in (1, 3)]
    for path in volumes:
        write_spacing(path, (0.8, 0.8, 0))
    code, _, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 1
    assert last_line(err).startswith(f"error: No spacing is in {volumes[0]}, {volumes[1]}; write it into the header")
    assert not (tmp_path / "data").exists()
    for path in volumes:
        write_spacing(path, (0.8, 0.8, 2.5))
    assert run("lits", tmp_path / "raw", tmp_path / "data")[0] == 0


def test_voxels_of_another_shape_are_no_matter_of_the_header(run, tmp_path):
    write_lits(tmp_path / "raw", 1, 2)
    nib.save(nib.Nifti1Image(mask((6, 8, 4), value=1), np.eye(4)), batch(tmp_path, 1))
    code, _, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 1
    assert f"liver_1: its label {batch(tmp_path, 1)} lies up to" in last_line(err)


@pytest.mark.parametrize("size", [90, 400])
def test_a_cut_off_segmentation_is_named(run, tmp_path, size):
    write_lits(tmp_path / "raw", 1, 2)
    write_affine(batch(tmp_path, 1), np.eye(4))
    batch(tmp_path, 1).write_bytes(batch(tmp_path, 1).read_bytes()[:size])
    code, _, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 1
    assert str(batch(tmp_path, 1)) in last_line(err)
    assert not (tmp_path / "data" / TASK).exists()


def affine_of(data, number):
    """Return the affine that image and label of an imported case have."""
    image, label = (nib.load(data / TASK / part / f"liver_{number}.nii.gz") for part in ("imagesTr", "labelsTr"))
    np.testing.assert_array_equal(image.affine, label.affine)
    np.testing.assert_array_equal(np.unique(label.dataobj), [0, 1 + number % 2])
    return image.affine


def unplace(path, codes=True):
    """Give a file the affine of the release that lost them: the identity, with or without a code."""
    image = nib.load(path, mmap=False)
    voxels = np.asarray(image.dataobj)
    lost = nib.Nifti1Image(voxels, np.eye(4))
    if not codes:
        lost.header.set_zooms((1, 1, 1))
        lost.set_sform(None, 0)
        lost.set_qform(None, 0)
    nib.save(lost, path)


@pytest.mark.parametrize("codes", [True, False], ids=["the identity", "no directions"])
def test_a_volume_without_a_place_gets_that_of_its_segmentation_and_is_named(run, tmp_path, codes):
    write_lits(tmp_path / "raw", 1, 28)
    volume_28 = next(tmp_path.rglob("volume-28.nii"))
    unplace(volume_28, codes)
    before = contents(tmp_path / "raw")
    code, out, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 0, err
    assert f"{volume_28} has the identity as affine; that of segmentation-28.nii is taken." in out
    assert "volume-1.nii" not in out
    np.testing.assert_allclose(affine_of(tmp_path / "data", 28), AFFINE, rtol=1e-6)
    np.testing.assert_array_equal(
        nib.load(tmp_path / "data" / TASK / "imagesTr" / "liver_28.nii.gz").dataobj, nib.load(volume_28).dataobj
    )
    assert contents(tmp_path / "raw") == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == [TASK]
    assert "is already there" in run("lits", tmp_path / "raw", tmp_path / "data")[1]


def test_a_case_that_nothing_places_is_left_out_and_named_or_gets_a_spacing(run, tmp_path):
    write_lits(tmp_path / "raw", 1, 28, 29, 30)
    for path in (*tmp_path.rglob("*-28.nii"), *tmp_path.rglob("*-30.nii")):
        unplace(path)
    code, out, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if "left out" in line]
    assert "volume-28.nii, " in line
    assert "volume-30.nii; " in line
    assert line.endswith("Give --spacing x,y,z in mm to take them.")
    assert names(tmp_path / "data" / TASK) == ["liver_1.nii.gz", "liver_29.nii.gz"]

    code, out, err = run("lits", tmp_path / "raw", tmp_path / "other", "--spacing", "0.7,0.75,1.5")
    assert code == 0, err
    assert out.count("their voxels are taken to be 0.7 x 0.75 x 1.5 mm.") == 2
    assert len(names(tmp_path / "other" / TASK)) == 4
    np.testing.assert_allclose(affine_of(tmp_path / "other", 28), np.diag([0.7, 0.75, 1.5, 1]), rtol=1e-6)
    np.testing.assert_allclose(affine_of(tmp_path / "other", 1), AFFINE, rtol=1e-6)


def test_where_nothing_places_any_case_or_the_spacing_is_none_one_line_says_so(run, tmp_path):
    write_lits(tmp_path / "raw", 28)
    for path in tmp_path.rglob("*-28.nii"):
        unplace(path)
    code, _, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 1
    assert last_line(err).endswith("volume-28.nii; give --spacing x,y,z in mm.")
    code, _, err = run("lits", tmp_path / "raw", tmp_path / "data", "--spacing", "0.7,1.5")
    assert code == 1
    assert last_line(err) == "error: spacing is (0.7, 1.5), but must be three positive numbers in mm, one per axis."
    assert not (tmp_path / "data").exists()
