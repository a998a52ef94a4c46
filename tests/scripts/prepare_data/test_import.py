from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage

from tests.scripts.prepare_data.conftest import (
    contents,
    last_line,
    mask,
    volume,
    write_affine,
    write_lasc,
    write_lits,
    write_nrrd,
)


@pytest.mark.parametrize("command", ["sample", "msd", "lasc", "lits", "segmentation", "visceral", "lidc"])
def test_help_says_what_the_folder_of_the_result_is_for(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert re.search(r"--out str \(required\)\n      folder for", out)


def test_lasc_keeps_voxels_and_geometry(run, tmp_path):
    write_lasc(tmp_path / "raw" / "Training Set", "A1", "B2")
    before = contents(tmp_path / "raw")
    code, out, _ = run("lasc", "--source", tmp_path / "raw", "--out", tmp_path / "data")
    assert code == 0
    assert "is written" in out
    folder = tmp_path / "data" / "LASC2018_LeftAtrium"
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert [entry["image"] for entry in dataset["training"]] == ["./imagesTr/A1.nii.gz", "./imagesTr/B2.nii.gz"]
    assert dataset["labels"] == {"0": "background", "1": "left atrium"}
    image, label = (nib.load(folder / part / "A1.nii.gz") for part in ("imagesTr", "labelsTr"))
    np.testing.assert_array_equal(image.dataobj, volume())
    np.testing.assert_array_equal(label.dataobj, mask(value=1))
    # The NRRD file counts in LPS, NIfTI in RAS: x and y change their sign.
    expected = [[0, 0.7, 0, -10], [-0.6, 0, 0, 20], [0, 0, 1.25, 30], [0, 0, 0, 1]]
    for written in (image, label):
        np.testing.assert_allclose(written.affine, expected, atol=1e-5)
    assert contents(tmp_path / "raw") == before


def test_lasc_as_read_by_monai_before_and_after_is_the_same(run, tmp_path):
    write_lasc(tmp_path / "raw", "A1", "B2")
    run("lasc", tmp_path / "raw", tmp_path / "data")
    before = LoadImage(reader="ITKReader")(tmp_path / "raw" / "B2" / "lgemri.nrrd")
    after = LoadImage()(tmp_path / "data" / "LASC2018_LeftAtrium" / "imagesTr" / "B2.nii.gz")
    np.testing.assert_array_equal(before.numpy(), after.numpy())
    np.testing.assert_allclose(before.affine, after.affine, atol=1e-5)


def test_lits_is_found_at_any_depth_and_sorted_by_number(run, tmp_path):
    write_lits(tmp_path / "raw", 10, 9, 100)
    (tmp_path / "raw" / "._volume-9.nii").write_bytes(b"stray")
    (tmp_path / "raw" / "volume-7.nii").mkdir()  # some archives unpack into folders of the file's name
    code, _, err = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 0, err
    folder = tmp_path / "data" / "Task03_Liver"
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert [Path(entry["label"]).name for entry in dataset["training"]] == [
        "liver_9.nii.gz",
        "liver_10.nii.gz",
        "liver_100.nii.gz",
    ]
    assert dataset["labels"] == {"0": "background", "1": "liver", "2": "cancer"}
    assert nib.load(folder / "imagesTr" / "liver_9.nii.gz").get_data_dtype() == np.int16
    np.testing.assert_allclose(nib.load(folder / "imagesTr" / "liver_9.nii.gz").affine, np.diag([-0.8, 0.8, 2.5, 1]))
    np.testing.assert_array_equal(nib.load(folder / "labelsTr" / "liver_9.nii.gz").dataobj, mask(value=2))


def test_scaled_files_become_float_with_the_scale_applied(run, tmp_path):
    write_lits(tmp_path / "raw", 1, 2)
    path = tmp_path / "raw" / "Training Batch 1" / "volume-1.nii"
    image = nib.Nifti1Image(volume(), nib.load(path).affine)
    image.header.set_slope_inter(2, -1000)
    nib.save(image, path)
    run("lits", tmp_path / "raw", tmp_path / "data")
    written = nib.load(tmp_path / "data" / "Task03_Liver" / "imagesTr" / "liver_1.nii.gz")
    assert written.get_data_dtype() == np.float32
    np.testing.assert_allclose(written.get_fdata(), nib.load(path).get_fdata())


def test_importing_the_same_again_does_nothing_and_another_source_is_refused(run, tmp_path):
    write_lits(tmp_path / "raw", 1, 2)
    run("lits", tmp_path / "raw", tmp_path / "data")
    shutil.copytree(tmp_path / "raw", tmp_path / "copy")
    for source in ("raw", "copy"):
        code, out, _ = run("lits", tmp_path / source, tmp_path / "data")
        assert code == 0
        assert "is already there" in out
    for path in (tmp_path / "copy").rglob("*.nii"):
        write_affine(path, np.diag([-0.7, 0.8, 2.5, 1]))
    code, _, err = run("lits", tmp_path / "copy", tmp_path / "data")
    assert code == 1
    assert "Task03_Liver already holds other data: none of its cases was made of one of these files" in err


def test_a_mended_label_is_taken_over_and_named(run, tmp_path):
    write_lasc(tmp_path / "raw", "A1", "B2")
    run("lasc", tmp_path / "raw", tmp_path / "data")
    mended = np.roll(mask(), 1, axis=0)
    write_nrrd(tmp_path / "raw" / "B2" / "laendo.nrrd", mended)
    code, out, _ = run("lasc", tmp_path / "raw", tmp_path / "data")
    assert code == 0
    assert "Renewed, since files or the choice of classes have changed: B2." in out
    label = nib.load(tmp_path / "data" / "LASC2018_LeftAtrium" / "labelsTr" / "B2.nii.gz")
    np.testing.assert_array_equal(label.dataobj, mended > 0)


@pytest.mark.parametrize("command", ["lasc", "lits"])
def test_an_empty_or_missing_source_is_one_line(run, tmp_path, command):
    (tmp_path / "raw").mkdir()
    for source in ("raw", "nowhere"):
        code, _, err = run(command, tmp_path / source, tmp_path / "data")
        assert code == 1
        assert err.count("\n") == 1
        assert err.startswith("error: There is no ")
        assert "give the folder of the unpacked download" in err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("missing", "partner"), [("lgemri", "laendo"), ("laendo", "lgemri")])
def test_a_missing_partner_is_named_before_anything_is_written(run, tmp_path, missing, partner):
    write_lasc(tmp_path / "raw", "A1", "B2", "C3")
    (tmp_path / "raw" / "B2" / f"{missing}.nrrd").unlink()
    code, _, err = run("lasc", tmp_path / "raw", tmp_path / "data")
    assert code == 1
    assert f"{tmp_path / 'raw' / 'B2' / partner}.nrrd has no partner {missing}.nrrd; add it" in err
    assert not (tmp_path / "data").exists()


def test_two_patients_of_one_name_are_refused(run, tmp_path):
    write_lasc(tmp_path / "raw" / "one", "A1")
    write_lasc(tmp_path / "raw" / "two", "A1")
    code, _, err = run("lasc", tmp_path / "raw", tmp_path / "data")
    assert code == 1
    assert "are both case A1" in err


def break_shape(folder):
    write_nrrd(folder / "laendo.nrrd", mask((6, 8, 6)))


def break_origin(folder):
    write_nrrd(folder / "laendo.nrrd", mask(), origin=(10.0, -20.0, 31.0))


def break_values(folder):
    write_nrrd(folder / "laendo.nrrd", mask(value=7))


def break_file(folder):
    (folder / "laendo.nrrd").write_bytes((folder / "laendo.nrrd").read_bytes()[:90])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (break_shape, r"B2/laendo.nrrd lies up to 1.25 mm off its image: its 6 x 8 x 6 voxels reach outside"),
        (break_origin, r"B2: its label .*B2/laendo.nrrd lies up to 1 mm off its image: it is moved"),
        (break_values, r"B2/laendo.nrrd has the values \[7\], but should have \[0, 255\]; correct it"),
        (break_file, r"B2/laendo.nrrd is not a readable volume .*; replace or convert it"),
    ],
)
def test_a_bad_case_is_named_and_the_import_goes_on_when_it_is_mended(run, tmp_path, break_it, message):
    write_lasc(tmp_path / "raw", "A1", "B2")
    break_it(tmp_path / "raw" / "B2")
    code, _, err = run("lasc", tmp_path / "raw", tmp_path / "data")
    assert code == 1
    assert re.search(message, last_line(err))
    assert not (tmp_path / "data" / "LASC2018_LeftAtrium").exists()

    (done,) = (tmp_path / "data").rglob("labelsTr/A1.nii.gz")
    finished = done.stat().st_mtime_ns
    write_lasc(tmp_path / "raw", "B2")
    code, _, _ = run("lasc", tmp_path / "raw", tmp_path / "data")
    assert code == 0
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["LASC2018_LeftAtrium"]
    kept = tmp_path / "data" / "LASC2018_LeftAtrium" / "labelsTr" / "A1.nii.gz"
    assert kept.stat().st_mtime_ns == finished


@pytest.mark.parametrize(("sides", "classes"), [("true", 3), ("false", 2)])
def test_visceral_says_that_the_data_must_not_be_passed_on(run, tmp_path, sides, classes):
    for ending in ("", "_1302_7", "_1326_7"):
        array = volume() if not ending else mask(value=1)
        (tmp_path / "raw").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "raw" / f"10000100_1_CTce_ThAb{ending}.nii.gz")
    code, out, err = run("visceral", "--source", tmp_path / "raw", "--out", tmp_path / "data", "--sides", sides)
    assert code == 0, err
    assert "forbids to pass on the data" in out
    dataset = json.loads((tmp_path / "data" / "VISCERAL_Lungs" / "dataset.json").read_text(encoding="utf-8"))
    assert len(dataset["labels"]) == classes
    _, out, _ = run("visceral", "--help")
    assert "must not pass the data on" in out
