"""Each layout that people have becomes the same training set, by one command."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from med3d_components.__main__ import COMMANDS
from med3d_components.data.dicom import read_series
from med3d_components.data.labelled import read_domain
from med3d_components.data.labels import fit_label
from med3d_components.masks import write_mask
from med3d_components.utils import run_commands
from tests.conftest import write_domain
from tests.data.channel_files import two_channels
from tests.data.dicom_files import write_series
from tests.masks.shapes import CLASSES, SHAPE, ball, nested_mask, upright_affine, write_scan

AFFINE = upright_affine()
SCAN = np.where(nested_mask() > 0, 100, -100).astype(np.int16)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``python -m med3d_components prepare segmentation``; return exit code, stdout and last line of stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["__main__.py"])
        code = 0
        try:
            run_commands(COMMANDS, None, ["prepare", "segmentation", *map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, (err.strip().splitlines() or [""])[-1]

    return command


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def task(folder: Path) -> tuple[object, ...]:
    save(folder / "imagesTr" / "a.nii.gz", SCAN)
    save(folder / "labelsTr" / "a.nii.gz", nested_mask())
    entry = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    content = {"labels": dict(enumerate(CLASSES)), "modality": {"0": "CT"}, "training": [entry]}
    (folder / "dataset.json").write_text(json.dumps(content))
    return "--source", folder


def nnunet(folder: Path) -> tuple[object, ...]:
    save(folder / "imagesTr" / "a_0000.nii.gz", SCAN)
    save(folder / "labelsTr" / "a.nii.gz", nested_mask())
    labels = {name: value for value, name in enumerate(CLASSES)}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return "--source", folder


def masks(folder: Path) -> tuple[object, ...]:
    save(folder / "a" / "ct.nii.gz", SCAN)
    for value, name in enumerate(CLASSES[1:], start=1):
        save(folder / "a" / "segmentations" / f"{name}.nii.gz", (nested_mask() == value).astype(np.uint8))
    save(folder / "a" / "segmentations" / "spleen.nii.gz", np.zeros(SHAPE, np.uint8))
    return "--source", folder


def dicom(folder: Path, kind: str) -> tuple[object, ...]:
    scan = write_scan(folder / "a" / "series", AFFINE)
    write_mask(nested_mask(), scan, folder / "a" / "labels" / "mask", CLASSES, kind)
    return "--source", folder


def rtstruct(folder: Path) -> tuple[object, ...]:
    return dicom(folder, "rtstruct")


def dicom_seg(folder: Path) -> tuple[object, ...]:
    pytest.importorskip("highdicom")
    return dicom(folder, "dicom-seg")


def seg_nrrd(folder: Path) -> tuple[object, ...]:
    scan = save(folder / "a.nii.gz", SCAN)
    write_mask(nested_mask(), scan, folder / "a", CLASSES, "seg.nrrd")
    return "--source", folder


def one_pair(folder: Path) -> tuple[object, ...]:
    images, labels = save(folder / "a.nii.gz", SCAN), save(folder / "b.nii.gz", nested_mask())
    return "--images", images, "--labels", labels, "--classes", ",".join(CLASSES)


def one_image_and_masks(folder: Path) -> tuple[object, ...]:
    masks(folder)
    image = (folder / "a" / "ct.nii.gz").rename(folder / "a.nii.gz")
    return "--images", image, "--labels", folder / "a" / "segmentations"


def pattern(folder: Path) -> tuple[object, ...]:
    save(folder / "a" / "ct.nii.gz", SCAN)
    save(folder / "a" / "x_seg.nii.gz", nested_mask())
    named = "left lung=1,liver tumour=2"
    return "--images", f"{folder}/{{case}}/ct.nii.gz", "--labels", f"{folder}/{{case}}/*_seg.nii.gz", "--classes", named


def table(folder: Path) -> tuple[object, ...]:
    save(folder / "x" / "1.nii.gz", SCAN)
    save(folder / "y" / "2.nii.gz", nested_mask())
    (folder / "pairs.csv").write_text("case,image,label\na,x/1.nii.gz,y/2.nii.gz\n")
    return "--pairs", folder / "pairs.csv", "--classes", ",".join(CLASSES)


LAYOUTS = (
    *(task, nnunet, masks, rtstruct, dicom_seg, seg_nrrd),
    *(one_pair, one_image_and_masks, pattern, table),
)


@pytest.mark.parametrize("write", LAYOUTS)
def test_each_layout_becomes_the_same_training_set(
    tmp_path: Path, run: Run, write: Callable[[Path], tuple[object, ...]]
) -> None:
    arguments = write(tmp_path / "source")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, out, err = run(*arguments, "--out", tmp_path / "Own")
    assert code == 0, err
    assert out.startswith("1 case found: ")
    content = json.loads((tmp_path / "Own" / "dataset.json").read_text())
    assert content["labels"] == {str(value): name for value, name in enumerate(CLASSES)}
    series = tmp_path / "source" / "a" / "series"
    name = read_series(series).uid if series.is_dir() else "a"  # no name of a folder, which may be a patient's
    label = nib.load(tmp_path / "Own" / "labelsTr" / f"{name}.nii.gz")
    assert np.array_equal(label.dataobj, nested_mask())
    assert np.allclose(label.affine, AFFINE, atol=1e-4)
    assert np.array_equal(nib.load(tmp_path / "Own" / "imagesTr" / f"{name}.nii.gz").dataobj, SCAN)
    assert {path: path.read_bytes() for path in before} == before
    assert "is already there" in run(*arguments, "--out", tmp_path / "Own")[1]


def test_values_are_picked_and_joined_and_others_are_said_to_become_background(tmp_path: Path, run: Run) -> None:
    for case, values in (("a", (1, 2, 7)), ("b", (2, 3, 5))):
        array = np.zeros((6, 6, 6), np.int16)
        for index, value in enumerate(values):
            array[index] = value
        save(tmp_path / "images" / f"{case}.nii.gz", array)
        save(tmp_path / "labels" / f"{case}.nii.gz", array)
    code, out, err = run("--source", tmp_path, "--out", tmp_path / "Own", "--classes", "liver=5,kidney=2+3")
    assert code == 0, err
    assert out.splitlines()[:7] == [
        "2 cases found: a folder of images and one of labels.",
        "Label value 5 is written as 1: liver.",
        "Label value 2 is written as 2: kidney.",
        "Label value 3 is written as 2: kidney.",
        "Label value 1 becomes background, in 1 of 2 cases.",
        "Label value 7 becomes background, in 1 of 2 cases.",
        f"{tmp_path / 'Own'} is written.",
    ]
    for case, expected in (("a", [0, 2, 0, 0, 0, 0]), ("b", [2, 2, 1, 0, 0, 0])):
        label = np.asarray(nib.load(tmp_path / "Own" / "labelsTr" / f"{case}.nii.gz").dataobj)
        assert label[:, 0, 0].tolist() == expected


def test_a_mask_that_some_cases_lack_counts_as_absent_there_and_that_is_said(tmp_path: Path, run: Run) -> None:
    masks(tmp_path / "source")
    shutil.copytree(tmp_path / "source" / "a", tmp_path / "source" / "b")
    (tmp_path / "source" / "b" / "segmentations" / "left lung.nii.gz").unlink()
    code, out, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own", "--classes", "lung=left lung")
    assert code == 0, err
    assert "lung is outlined in no voxel of 1 of 2 cases: b." in out
    assert "liver tumour becomes background, in 2 of 2 cases." in out
    labels = [np.asarray(nib.load(tmp_path / "Own" / "labelsTr" / f"{case}.nii.gz").dataobj) for case in "ab"]
    assert np.array_equal(labels[0], nested_mask() == 1)
    assert not labels[1].any()


def test_masks_of_classes_that_are_not_wanted_are_not_read(tmp_path: Path, run: Run) -> None:
    masks(tmp_path / "source")
    (tmp_path / "source" / "a" / "segmentations" / "liver tumour.nii.gz").write_bytes(b"broken")
    code, _, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own", "--classes", "left lung")
    assert code == 0, err


def test_overlapping_segments_need_an_order_which_is_proposed_and_kept(tmp_path: Path, run: Run) -> None:
    scan = write_scan(tmp_path / "source" / "scan", AFFINE)
    small, large = ball((18, 15, 12), 4), ball((18, 15, 12), 9)
    for region, name in ((small, "GTV 1"), (large, "Liver")):
        mask = region.astype(np.uint8)
        write_mask(mask, scan, tmp_path / "source" / name, ["background", name], "rtstruct")
    code, _, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own")
    assert code == 1
    assert "GTV 1 and Liver overlap" in err or "Liver and GTV 1 overlap" in err
    proposal = err.split("--classes '")[1].split("'")[0]
    assert proposal == 'Liver,"GTV 1"'
    code, out, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own", "--classes", proposal)
    assert code == 0, err
    assert "GTV 1 covers a part of Liver, in 1 of 1 cases." in out
    (label,) = (tmp_path / "Own" / "labelsTr").iterdir()
    expected = np.where(small, 2, np.where(large, 1, 0))
    assert np.array_equal(np.asarray(nib.load(label).dataobj), expected)


@pytest.mark.parametrize(("axis", "moved", "distance"), [(0, 60, "60"), (2, 100, "98.8")])
def test_structures_that_reach_outside_their_scan_stop_the_import_where_they_are_wanted(
    tmp_path: Path, run: Run, axis: int, moved: int, distance: str
) -> None:
    scan = write_scan(tmp_path / "source" / "a", AFFINE)
    outside = np.zeros(SHAPE, np.uint8)
    outside[:9, 10:20, :9] = 1  # to the first faces of the scan, and the middle of its first slice
    (file,) = write_mask(outside, scan, tmp_path / "source" / "rt", ["background", "tumour"], "rtstruct")
    write_mask(nested_mask(), scan, tmp_path / "source" / "ok", CLASSES, "rtstruct")
    header = pydicom.dcmread(file)
    for contour in header.ROIContourSequence[0].ContourSequence:
        points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
        points[:, axis] -= moved
        contour.ContourData = [f"{value:.3f}" for value in points.ravel()]
    header.save_as(file)
    arguments = ("--source", tmp_path / "source", "--out", tmp_path / "Own")
    code, _, err = run(*arguments)
    assert code == 1
    name = read_series(scan).uid
    assert err.startswith(f"error: {name}: tumour in {file} reaches {distance} mm outside its scan, so it belongs to")
    assert not (tmp_path / "Own").exists()
    code, _, err = run(*arguments, "--classes", ",".join(CLASSES[1:]))
    assert code == 0, err
    assert np.array_equal(nib.load(tmp_path / "Own" / "labelsTr" / f"{name}.nii.gz").dataobj, nested_mask())


@pytest.mark.parametrize("kind", ["dicom-seg", "seg.nrrd"])
@pytest.mark.parametrize("voxels", [(20, 0, 0), (0, 0, 12)])
def test_regions_on_a_grid_that_is_moved_are_not_cut_off_in_silence(
    tmp_path: Path, run: Run, kind: str, voxels: tuple[int, int, int]
) -> None:
    moved = AFFINE.copy()
    moved[:3, 3] += AFFINE[:3, :3] @ voxels
    if kind == "dicom-seg":
        pytest.importorskip("highdicom")
    scan, drawn = write_scan(tmp_path / "scan", AFFINE), write_scan(tmp_path / "other", moved)
    (file,) = write_mask(nested_mask(), drawn, tmp_path / "mask", CLASSES, kind)
    code, _, err = run("--images", scan, "--labels", file, "--out", tmp_path / "Own")
    assert code == 1
    assert re.search(r"its label \S+ lies up to [\d.]+ mm off its image", err), err


def test_a_mask_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, run: Run) -> None:
    code, _, err = run(*masks(tmp_path / "source"), "--out", tmp_path / "Own", "--classes", "heart")
    assert code == 1
    assert err.startswith("error: No mask is called heart; there is left lung, liver tumour, spleen; name them")


@pytest.mark.parametrize(
    ("cases", "reason"),
    [
        (("a/b", "a_b"), "The cases a/b and a_b would both be called a_b; rename one."),
        (("a_b", "a/b"), "The cases a_b and a/b would both be called a_b; rename one."),
        (("..", "x"), "The case .. would become a hidden file, ...nii.gz; give it another name."),
        (("x", ".y"), "The case .y would become a hidden file, .y.nii.gz; give it another name."),
    ],
)
def test_cases_that_cannot_be_files_of_their_own_get_one_line(
    tmp_path: Path, run: Run, cases: tuple[str, str], reason: str
) -> None:
    arguments = table(tmp_path)
    rows = "".join(f"{case},x/1.nii.gz,y/2.nii.gz\n" for case in cases)
    (tmp_path / "pairs.csv").write_text(f"case,image,label\n{rows}")
    code, _, err = run(*arguments, "--out", tmp_path / "Own")
    assert (code, err) == (1, f"error: {reason}")


def test_a_list_of_nnunet_is_imported_with_its_cases_alone(tmp_path: Path, run: Run) -> None:
    nnunet(tmp_path / "source")
    save(tmp_path / "pool" / "t2.nii.gz", SCAN)
    save(tmp_path / "pool" / "seg.nii.gz", np.roll(nested_mask(), 1, axis=0))
    file = tmp_path / "source" / "dataset.json"
    listed = {"p1": {"images": ["../pool/t2.nii.gz"], "label": "../pool/seg.nii.gz"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dataset": listed}))
    code, out, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own")
    assert code == 0, err
    assert out.startswith("1 case found: raw dataset of nnU-Net.")
    (label,) = (tmp_path / "Own" / "labelsTr").iterdir()
    assert label.name == "p1.nii.gz"
    assert np.array_equal(nib.load(label).dataobj, np.roll(nested_mask(), 1, axis=0))


def test_two_versions_of_a_structure_set_are_not_joined_but_other_classes_of_theirs_are_taken(
    tmp_path: Path, run: Run
) -> None:
    rtstruct(tmp_path / "source")
    names = ["background", "left lung", "tumour, grown"]
    write_mask(nested_mask(), tmp_path / "source/a/series", tmp_path / "source/a/new", names, "rtstruct")
    arguments = ("--source", tmp_path / "source", "--out", tmp_path / "Own", "--classes")
    code, _, err = run(*arguments, "left lung")
    assert code == 1
    name = read_series(tmp_path / "source/a/series").uid
    assert f"{name}: left lung is outlined in " in err
    assert err.endswith("move one away.")
    code, _, err = run(*arguments, 'tumour="tumour, grown"')
    assert code == 0, err
    assert np.array_equal(nib.load(tmp_path / "Own" / "labelsTr" / f"{name}.nii.gz").dataobj, nested_mask() == 2)


def test_a_new_study_leaves_the_names_of_the_others(tmp_path: Path, run: Run) -> None:
    rtstruct(tmp_path / "source")
    arguments = ("--source", tmp_path / "source", "--out", tmp_path / "Own")
    assert run(*arguments)[0] == 0
    affine = upright_affine()
    affine[2, 3] += 500
    scan = write_scan(tmp_path / "source" / "a" / "later", affine)
    write_mask(nested_mask(), scan, tmp_path / "source" / "a" / "later", CLASSES, "rtstruct")
    code, out, err = run(*arguments)
    assert code == 0, err
    assert f"New: {read_series(scan).uid}." in out
    assert "Without a source" not in out


def test_a_case_that_cannot_be_used_is_written_but_makes_the_exit_code_1(tmp_path: Path, run: Run) -> None:
    image, label = np.full(SHAPE, np.nan, np.float32), nested_mask()
    arguments = ("--images", save(tmp_path / "a.nii", image), "--labels", save(tmp_path / "b.nii", label))
    code, out, _ = run(*arguments, "--out", tmp_path / "Own")
    assert code == 1
    assert "unusable image" in out


def test_structures_of_one_name_in_one_file_are_joined_and_that_is_said(tmp_path: Path, run: Run) -> None:
    scan = write_scan(tmp_path / "source" / "a", AFFINE)
    write_mask(nested_mask(), scan, tmp_path / "source" / "plan", ["background", "lesion", "lesion"], "rtstruct")
    code, out, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own")
    assert code == 0, err
    assert "has 2 classes called lesion; they are joined" in out
    (label,) = (tmp_path / "Own" / "labelsTr").iterdir()
    assert np.array_equal(nib.load(label).dataobj, nested_mask() > 0)


def test_of_many_values_that_become_background_the_first_are_named(tmp_path: Path, run: Run) -> None:
    array = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    arguments = ("--images", save(tmp_path / "i.nii", array), "--labels", save(tmp_path / "l.nii", array))
    code, out, err = run(*arguments, "--out", tmp_path / "Own", "--classes", "a=1")
    assert code == 0, err
    assert out.count("becomes background, in 1 of 1 cases") == 20
    assert "42 others become background." in out


def test_series_that_share_a_folder_are_cases_of_their_own(tmp_path: Path, run: Run) -> None:
    for number in range(2):
        affine = upright_affine()
        affine[2, 3] += 500 * number
        scan = write_scan(tmp_path / f"scan {number}", affine)
        write_mask(np.roll(nested_mask(), number, axis=1), scan, tmp_path / "source" / f"{number}", CLASSES, "rtstruct")
    for number in range(2):
        for file in (tmp_path / f"scan {number}").iterdir():
            file.rename(tmp_path / "source" / f"{number}-{file.name}")
    code, out, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own")
    assert code == 0, err
    assert out.startswith("2 cases found: DICOM series with RTSTRUCT")
    found = [np.asarray(nib.load(path).dataobj) for path in (tmp_path / "Own" / "labelsTr").iterdir()]
    for number in range(2):
        assert any(np.array_equal(label, np.roll(nested_mask(), number, axis=1)) for label in found)


def test_a_training_set_inside_its_source_is_no_part_of_it(tmp_path: Path, run: Run) -> None:
    arguments = (*seg_nrrd(tmp_path), "--out", tmp_path / "Own")
    assert run(*arguments)[0] == 0
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "Own is already there" in out


def test_a_4d_task_keeps_its_channels_and_which_one_to_use(tmp_path: Path, run: Run) -> None:
    task(tmp_path / "source")
    both = np.stack([SCAN, SCAN + 1], axis=-1)
    save(tmp_path / "source" / "imagesTr" / "a.nii.gz", both)
    file = tmp_path / "source" / "dataset.json"
    content = json.loads(file.read_text()) | {"modality": {"0": "T2", "1": "ADC"}, "channel": 1}
    file.write_text(json.dumps(content))
    code, _, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own")
    assert code == 0, err
    written = json.loads((tmp_path / "Own" / "dataset.json").read_text())
    assert (written["modality"], written["channel"]) == ({"0": "T2", "1": "ADC"}, 1)
    assert np.array_equal(nib.load(tmp_path / "Own" / "imagesTr" / "a.nii.gz").dataobj, both)


def test_several_channels_of_nnunet_become_one_4d_image(tmp_path: Path, run: Run) -> None:
    nnunet(tmp_path / "source")
    save(tmp_path / "source" / "imagesTr" / "a_0001.nii.gz", SCAN + 1)
    file = tmp_path / "source" / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"channel_names": {"0": "T2", "1": "ADC"}}))
    code, _, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own")
    assert code == 0, err
    content = json.loads((tmp_path / "Own" / "dataset.json").read_text())
    assert (content["tensorImageSize"], content["modality"]) == ("4D", {"0": "T2", "1": "ADC"})
    image = np.asarray(nib.load(tmp_path / "Own" / "imagesTr" / "a.nii.gz").dataobj)
    assert np.array_equal(image, np.stack([SCAN, SCAN + 1], axis=-1))


@pytest.mark.parametrize("layout", ["4-D", "list", "first", "nnU-Net 1", "mixed"])
@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_channels_in_all_layouts_of_a_training_become_one_4d_image(
    tmp_path: Path, run: Run, layout: str, key: str
) -> None:
    source = write_domain(tmp_path / "source", cases=3)
    first = {path.name: nib.load(path).get_fdata() for path in (source / "imagesTr").iterdir()}
    two_channels(source, *(["4-D", "list", "first"] if layout == "mixed" else [layout]))
    content = json.loads((source / "dataset.json").read_text()) | {key: {"0": "T1", "1": "T2"}}
    (source / "dataset.json").write_text(json.dumps(content))
    code, _, err = run("--source", source, "--out", tmp_path / "Own")
    assert code == 0, err
    written = json.loads((tmp_path / "Own" / "dataset.json").read_text())
    assert (written["tensorImageSize"], written["modality"]) == ("4D", {"0": "T1", "1": "T2"})
    assert {Path(entry["image"]).name for entry in written["training"]} == first.keys()
    for name, image in first.items():
        found = nib.load(tmp_path / "Own" / "imagesTr" / name).get_fdata()
        np.testing.assert_allclose(found, np.stack([image, 500 - image], axis=-1), atol=1e-3)
        label = Path("labelsTr", name)
        assert np.array_equal(nib.load(tmp_path / "Own" / label).dataobj, nib.load(source / label).dataobj)


@pytest.mark.parametrize(
    "given",
    [[], ["--images", "a"], ["--labels", "a"], ["--source", "a", "--pairs", "b"], ["--source", "a", "--labels", "b"]],
)
def test_anything_but_one_way_to_name_the_files_gets_one_line(tmp_path: Path, run: Run, given: list[str]) -> None:
    code, _, err = run(*given, "--out", tmp_path / "Own")
    assert code == 1
    assert err.startswith("error: Give one of --source FOLDER, --images with --labels, or --pairs TABLE.csv")


def real(name: str) -> Path:
    folder = os.environ.get("MED3D_REAL_DATA")
    if not folder or not Path(folder, name).exists():
        pytest.skip(f"MED3D_REAL_DATA names no folder with {name}")
    return Path(folder, name)


@pytest.mark.parametrize("kind", ["masks", "rtstruct", "dicom-seg"])
def test_organs_of_a_real_scan_come_back_voxel_for_voxel(tmp_path: Path, run: Run, kind: str) -> None:
    ct, labels = (nib.as_closest_canonical(nib.load(real("example_ct") / f"{x}.nii.gz")) for x in ("ct", "labels"))
    organs = np.asarray(labels.dataobj).astype(np.uint8)
    names = [f"organ {value:02}" for value in range(organs.max() + 1)]
    here, affine = tmp_path / "source" / "s1", ct.affine
    if kind == "masks":
        save(here / "ct.nii.gz", np.asarray(ct.dataobj), affine)
        for value in range(1, len(names)):
            save(here / "segmentations" / f"{names[value]}.nii.gz", (organs == value).astype(np.uint8), affine)
    else:
        write_series(here / "series", np.asarray(ct.dataobj), affine)
        series = read_series(here / "series")
        affine, organs = series.affine, fit_label(organs, affine, series.shape, series.affine, "organs")
        write_mask(organs, here / "series", here / "mask", names, kind)
    code, _, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own")
    assert code == 0, err
    (label,) = (tmp_path / "Own" / "labelsTr").iterdir()
    found = nib.load(label)
    expected = np.searchsorted(np.unique(organs), organs)  # classes without a voxel are left out
    assert np.array_equal(found.dataobj, expected)
    assert np.allclose(found.affine, affine, atol=1e-3)


def test_a_real_task_of_the_decathlon_is_imported_with_its_classes(tmp_path: Path, run: Run) -> None:
    source = real("Task04_Hippocampus")
    content = json.loads((source / "dataset.json").read_text())
    some = content | {"training": content["training"][:3]}
    for entry in some["training"]:
        for part in ("image", "label"):
            (tmp_path / "source" / entry[part]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / entry[part], tmp_path / "source" / entry[part])
    (tmp_path / "source" / "dataset.json").write_text(json.dumps(some))
    code, out, err = run("--source", tmp_path / "source", "--out", tmp_path / "Own")
    assert code == 0, err
    assert out.startswith("3 cases found: task of the Medical Segmentation Decathlon.")
    domain = read_domain(tmp_path / "Own")
    assert domain.classes == ("background", "Anterior", "Posterior")
    for entry in some["training"]:
        before, after = (nib.load(folder / entry["label"]) for folder in (source, tmp_path / "Own"))
        assert np.array_equal(before.dataobj, after.dataobj)
