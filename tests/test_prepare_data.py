from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
import tarfile
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
from monai.apps import DecathlonDataset
from monai.transforms import LoadImage

from med3d_components.data.decathlon import Scan, write_domain
from med3d_components.data.domains import DOMAINS_3DSEG8

# ITK's wrapping says this at import on Python 3.11 and later; as an error it would crash the interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute:DeprecationWarning")

SCRIPT = Path(__file__).parents[1] / "scripts" / "prepare_data.py"
TASK = "Task09_Spleen"
SPACING, ORIGIN = (0.6, 0.7, 1.25), (10.0, -20.0, 30.0)


@pytest.fixture(scope="module")
def prepare_data():
    spec = importlib.util.spec_from_file_location("prepare_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(prepare_data, monkeypatch, capsys):
    """Run the command line; return its exit code, and what it printed to stdout and stderr."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["prepare_data.py", *map(str, arguments)])
        try:
            prepare_data.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return command


def last_line(text):
    return text.strip().splitlines()[-1]


def volume(shape=(6, 8, 5)):
    return np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)


def mask(shape=(6, 8, 5), value=255):
    label = np.zeros(shape, np.uint8)
    label[2:4, 2:6, 1:3] = value
    return label


def write_nrrd(path, array, origin=ORIGIN):
    """Write an array indexed [x, y, z] with a direction that is not the identity."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = itk.image_from_array(np.ascontiguousarray(array.T))
    image.SetSpacing(SPACING)
    image.SetOrigin(origin)
    image.SetDirection(itk.matrix_from_array(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])))
    itk.imwrite(image, str(path))


def write_lasc(source, *cases):
    for case in cases:
        write_nrrd(source / case / "lgemri.nrrd", volume())
        write_nrrd(source / case / "laendo.nrrd", mask())


def write_lits(source, *numbers):
    affine = np.diag([-0.8, 0.8, 2.5, 1])
    for number, folder in zip(numbers, ("Training Batch 1", "Training Batch 2") * len(numbers), strict=False):
        (source / folder).mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(volume().astype(np.int16) - 900, affine)
        label = nib.Nifti1Image(mask(value=1 + number % 2), affine)
        nib.save(image, source / folder / f"volume-{number}.nii")
        nib.save(label, source / folder / f"segmentation-{number}.nii")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_sample_writes_all_eight_domains_and_says_that_they_are_synthetic(run, tmp_path):
    code, out, _ = run("sample", "--out", tmp_path, "--cases", 2, "--seed", 3)
    assert code == 0
    assert "synthetic" in out
    assert "nothing about medicine" in out
    assert {path.name for path in tmp_path.iterdir()} == set(DOMAINS_3DSEG8)
    for name, facts in DOMAINS_3DSEG8.items():
        dataset = json.loads((tmp_path / name / "dataset.json").read_text())
        assert dataset["synthetic"] == {"seed": 3, "cases": 2, "version": 1}
        assert list(dataset["labels"].values()) == list(facts.classes)
        image = nib.load(tmp_path / name / dataset["training"][1]["image"])
        assert image.ndim == (4 if len(facts.channels) > 1 else 3)

    before = contents(tmp_path)
    code, out, _ = run("sample", "--out", tmp_path, "--cases", 2, "--seed", 3)
    assert code == 0
    assert out.count("is already there") == 8
    assert contents(tmp_path) == before

    code, _, err = run("sample", "--out", tmp_path, "--cases", 3, "--seed", 3)
    assert code == 1
    assert last_line(err).startswith("error: ")
    assert "already holds other data; move it away" in err
    assert contents(tmp_path) == before


def test_a_wrong_option_value_is_one_line(run, tmp_path):
    code, _, err = run("sample", "--out", tmp_path, "--cases", "many")
    assert (code, err) == (1, "error: cases is 'many', but must be a positive integer.\n")


@pytest.mark.parametrize("command", ["sample", "msd", "lasc", "lits"])
def test_help_explains_every_argument(run, command):
    code, out, err = run(command, "--help")
    text = out + err
    assert code == 0
    assert "folder for" in text
    assert "OUT" in text


def test_lasc_keeps_voxels_and_geometry(run, tmp_path):
    write_lasc(tmp_path / "raw" / "Training Set", "A1", "B2")
    before = contents(tmp_path / "raw")
    code, out, _ = run("lasc", "--source", tmp_path / "raw", "--out", tmp_path / "data")
    assert code == 0
    assert "is written" in out
    folder = tmp_path / "data" / "LASC2018_LeftAtrium"
    dataset = json.loads((folder / "dataset.json").read_text())
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
    dataset = json.loads((folder / "dataset.json").read_text())
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
    write_lits(tmp_path / "other", 1, 2)
    run("lits", tmp_path / "raw", tmp_path / "data")
    code, out, _ = run("lits", tmp_path / "raw", tmp_path / "data")
    assert code == 0
    assert "is already there" in out
    code, _, err = run("lits", tmp_path / "other", tmp_path / "data")
    assert code == 1
    assert "Task03_Liver already holds other data" in err


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
    write_nrrd(folder / "laendo.nrrd", mask((6, 8, 4)))


def break_origin(folder):
    write_nrrd(folder / "laendo.nrrd", mask(), origin=(10.0, -20.0, 31.0))


def break_values(folder):
    write_nrrd(folder / "laendo.nrrd", mask(value=7))


def break_file(folder):
    (folder / "laendo.nrrd").write_bytes((folder / "laendo.nrrd").read_bytes()[:90])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (break_shape, r"has shape \(6, 8, 5\), but .*B2/laendo.nrrd has \(6, 8, 4\); copy both anew"),
        (break_origin, r"B2/laendo.nrrd differ in spacing, direction or origin; copy both anew"),
        (break_values, r"B2/laendo.nrrd has the values \[7\], but should have \[0, 255\]; copy both anew"),
        (break_file, r"B2/laendo.nrrd cannot be read .*; copy it anew"),
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


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Make a small archive of a task, with stray files, stand in for the public one; return where it is."""
    folder = tmp_path / "public" / TASK
    label = np.zeros((3, 4, 5), np.uint8)
    write_domain(folder, DOMAINS_3DSEG8[TASK], {"a": lambda: Scan(label, label, np.eye(4))}, "", {})
    (folder / "imagesTr" / "._a.nii.gz").write_bytes(b"stray")
    path = tmp_path / "public" / f"{TASK}.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder, TASK)
    monkeypatch.setitem(DecathlonDataset.resource, TASK, path.as_uri())
    monkeypatch.setitem(DecathlonDataset.md5, TASK, hashlib.md5(path.read_bytes()).hexdigest())
    return path


def test_msd_downloads_checks_unpacks_and_removes_stray_files(run, tmp_path, archive):
    code, out, err = run("msd", "--task", TASK, "--out", tmp_path / "data")
    assert code == 0, err
    assert "is ready" in out
    files = {p.relative_to(tmp_path / "data").as_posix() for p in (tmp_path / "data").rglob("*") if p.is_file()}
    assert files == {
        f"{TASK}.tar",
        f"{TASK}/dataset.json",
        f"{TASK}/imagesTr/a.nii.gz",
        f"{TASK}/labelsTr/a.nii.gz",
    }


def test_msd_downloads_from_monais_table_with_its_md5(run, tmp_path, archive, prepare_data, monkeypatch):
    asked = []

    def download(url, filepath, hash_val, hash_type):
        asked.append((url, hash_val, hash_type))
        filepath.write_bytes(archive.read_bytes())

    monkeypatch.setattr(prepare_data, "download_url", download)
    assert run("msd", TASK, tmp_path / "data")[0] == 0
    assert asked == [(DecathlonDataset.resource[TASK], DecathlonDataset.md5[TASK], "md5")]
    assert run("msd", TASK, tmp_path / "data")[0] == 0
    assert len(asked) == 1, "what is there is not downloaded again"


def test_msd_refuses_a_damaged_archive(run, tmp_path, archive, monkeypatch):
    monkeypatch.setitem(DecathlonDataset.md5, TASK, "0" * 32)
    code, _, err = run("msd", TASK, tmp_path / "data")
    assert code == 1
    assert "is damaged (wrong md5); delete the archive and run again" in last_line(err)
    assert not list((tmp_path / "data").iterdir())


def test_msd_lists_the_allowed_tasks(run, tmp_path):
    code, _, err = run("msd", "Task9", tmp_path)
    assert code == 1
    assert err.startswith("error: There is no task 'Task9'; choose one of Task01_BrainTumour, ")
    assert err.count("\n") == 1


def test_msd_without_a_network_says_what_to_do_and_then_takes_the_archive_by_hand(run, tmp_path, archive, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(DecathlonDataset.resource, TASK, f"https://localhost:9/{TASK}.tar")  # nobody listens on port 9
        code, _, err = run("msd", TASK, tmp_path / "data")
        assert code == 1
        assert last_line(err).startswith("error: No download (")
        by_hand = tmp_path / "data" / f"{TASK}.tar"
        assert f"Get https://localhost:9/{TASK}.tar by hand, save it as {by_hand} and run again" in last_line(err)
        assert not list((tmp_path / "data").iterdir())
        by_hand.write_bytes(archive.read_bytes())
        assert run("msd", TASK, tmp_path / "data")[0] == 0
    assert (tmp_path / "data" / TASK / "dataset.json").is_file()


def test_msd_does_not_take_sample_data_or_half_a_task_for_the_real_one(run, tmp_path):
    (tmp_path / TASK).mkdir()
    code, _, err = run("msd", TASK, tmp_path)
    assert code == 1
    assert "has no dataset.json" in err
    (tmp_path / TASK / "dataset.json").write_text(json.dumps({"synthetic": {"seed": 0}}))
    code, _, err = run("msd", TASK, tmp_path)
    assert code == 1
    assert "holds synthetic sample data; choose another folder" in err
