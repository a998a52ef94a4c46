from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from skimage.measure import label

from med3d_components.data.nodules import list_nodules
from med3d_components.data.volumes import open_scan
from med3d_components.prepare.lidc import import_lidc
from tests.data.dicom_files import WrittenSeries, write_object, write_series, write_slices
from tests.prepare.lidc_files import AFFINE, CENTRE, SHAPE, nodule, report, roi, rois, small, sphere, walk_around

MakeCase = Callable[..., WrittenSeries]


@pytest.fixture
def case(tmp_path: Path) -> MakeCase:
    """Write a patient's CT into the download, and return its UIDs."""

    def write(patient: str = "LIDC-IDRI-0001", study: str = "01-01-2000-30178", **options: Any) -> WrittenSeries:
        folder = tmp_path / "download" / patient / study / "3000566-03192"
        return write_series(folder, np.zeros(SHAPE), AFFINE, patient=patient, **options)

    return write


@pytest.fixture
def annotate(tmp_path: Path) -> Callable[..., Path]:
    """Write an XML file, beside the slices unless told otherwise."""

    def write(content: str, name: str = "LIDC-IDRI-0001/01-01-2000-30178/3000566-03192/069.xml") -> Path:
        file = tmp_path / "download" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    return write


Annotate = Callable[..., Path]


def run(tmp_path: Path) -> list[dict[str, Any]]:
    assert import_lidc(tmp_path / "download", tmp_path / "lidc")
    nodules: list[dict[str, Any]] = json.loads((tmp_path / "lidc" / "dataset.json").read_text(encoding="utf-8"))[
        "nodules"
    ]
    return nodules


def in_series(mask: Path) -> NDArray[np.bool_]:
    """Put a mask back into the voxels of its series by its affine."""
    image = nib.load(mask)
    index = apply_affine(np.linalg.inv(AFFINE) @ image.affine, np.argwhere(image.get_fdata()))
    np.testing.assert_allclose(index, index.round(), atol=1e-3)
    volume = np.zeros(SHAPE, bool)
    volume[tuple(index.round().astype(int).T)] = True
    return volume


def dice(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    return float(2 * (one & two).sum() / (one.sum() + two.sum()))


def test_four_readers_of_one_nodule_give_its_centre_mask_and_scores(
    tmp_path: Path, case: MakeCase, annotate: Annotate
) -> None:
    series = case(shuffle=True)
    shifted = [(30, 26, 12), (31, 26, 12), (30, 25, 12), (29, 27, 12)]
    seen = [sphere(centre, radius) for centre, radius in zip(shifted, (6.0, 6.5, 5.5, 6.0), strict=True)]
    scores = (4, 5, 3, 4)
    annotate(report(series.uid, [nodule(rois(x, series), score) for x, score in zip(seen, scores, strict=True)]))
    (entry,) = run(tmp_path)
    assert entry["malignancy"] == list(scores)
    assert entry["patient"] == "LIDC-IDRI-0001"
    assert entry["image"] == "../download/LIDC-IDRI-0001/01-01-2000-30178/3000566-03192"
    np.testing.assert_allclose(entry["center_mm"], apply_affine(AFFINE, CENTRE), atol=0.5)
    mask = in_series(tmp_path / "lidc" / entry["mask"])
    assert dice(mask, sphere()) > 0.9
    np.testing.assert_array_equal(mask, np.sum(seen, axis=0) >= 2)  # the synthetic outlines are exact


def test_the_mask_is_a_small_crop_with_a_margin(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere((30, 26, 2), 4), series))]))
    (entry,) = run(tmp_path)
    image = nib.load(tmp_path / "lidc" / entry["mask"])
    assert image.get_data_dtype() == np.uint8
    index = np.argwhere(image.get_fdata())
    assert index.min(axis=0).tolist() == [3, 3, 0]  # the volume ends there
    assert (image.shape - index.max(axis=0) - 1).tolist() == [3, 3, 3]


def test_the_dataset_says_what_it_is(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series))]))
    run(tmp_path)
    dataset = json.loads((tmp_path / "lidc" / "dataset.json").read_text(encoding="utf-8"))
    assert dataset["name"] == "LIDC-IDRI"
    assert "The Cancer Imaging Archive" in dataset["reference"]
    assert dataset["licence"] == "CC-BY 3.0"
    assert (tmp_path / "lidc" / dataset["nodules"][0]["image"] / "000001.dcm").is_file()
    assert (tmp_path / "lidc" / "masks" / "LIDC-IDRI-0001_01.nii.gz").is_file()


def test_two_nodules_near_each_other_stay_two(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    left, right = (20, 26, 12), (35, 26, 12)  # 10.5 mm apart, 5 mm in radius
    both = [nodule(rois(sphere(left, 5), series), 1) + nodule(rois(sphere(right, 5), series), 5) for _ in range(3)]
    annotate(report(series.uid, [*both, nodule(rois(sphere(right, 5), series), 4)]))
    entries = run(tmp_path)
    assert [entry["malignancy"] for entry in entries] == [[1, 1, 1], [5, 5, 5, 4]]
    for entry, centre in zip(entries, (left, right), strict=True):
        np.testing.assert_allclose(entry["center_mm"], apply_affine(AFFINE, centre), atol=0.1)
        assert dice(in_series(tmp_path / "lidc" / entry["mask"]), sphere(centre, 5)) > 0.9


def test_a_reader_counts_once_for_a_nodule(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    near, far = sphere((31, 26, 12), 3), sphere((37, 26, 12), 3)
    annotate(
        report(
            series.uid,
            [nodule(rois(sphere(), series), 2), nodule(rois(far, series), 5) + nodule(rois(near, series), 3)],
        )
    )
    assert [entry["malignancy"] for entry in run(tmp_path)] == [[2, 3], [5]]


def test_a_reader_who_joins_two_nodules_does_not_break_the_others(
    tmp_path: Path, case: MakeCase, annotate: Annotate
) -> None:
    series = case()
    left, right = sphere((25, 26, 12), 3), sphere((35, 26, 12), 3.5)
    both = nodule(rois(left, series), 1) + nodule(rois(right, series), 5)
    annotate(report(series.uid, [both, both, nodule(rois(sphere((31, 26, 12), 7), series), 3)]))
    assert sorted(entry["malignancy"] for entry in run(tmp_path)) == [[1, 1], [5, 5, 3]]


def test_nodules_below_3_mm_and_other_findings_are_passed_over(
    tmp_path: Path, case: MakeCase, annotate: Annotate
) -> None:
    series = case()
    annotate(report(series.uid, [small(series) + nodule(rois(sphere(), series)), small(series)]))
    assert [entry["malignancy"] for entry in run(tmp_path)] == [[3]]


def test_a_hole_is_taken_out_with_its_edge(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    square = [(10, 10), (30, 10), (30, 30), (10, 30)]  # corners alone, as no real file has them
    hole = [(18, 18), (22, 18), (22, 22), (18, 22)]
    uid = series.instance_uids[4]
    annotate(report(series.uid, [nodule(roi(uid, square) + roi(uid, hole, "FALSE"))]))
    (entry,) = run(tmp_path)
    expected = np.zeros(SHAPE, bool)
    expected[11:30, 11:30, 4] = True
    expected[18:23, 18:23, 4] = False
    np.testing.assert_array_equal(in_series(tmp_path / "lidc" / entry["mask"]), expected)


def test_an_outline_around_nothing_is_the_nodule_itself(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    annotate(report(series.uid, [nodule(roi(series.instance_uids[4], [(10, 12), (11, 12), (11, 13)]))]))
    (entry,) = run(tmp_path)
    found = np.argwhere(in_series(tmp_path / "lidc" / entry["mask"])).tolist()
    assert found == [[10, 12, 4], [11, 12, 4], [11, 13, 4]]


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://www.nih.gov/idri"'], ids=["none", "another"])
def test_the_namespace_does_not_matter(tmp_path: Path, case: MakeCase, annotate: Annotate, namespace: str) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series))], namespace))
    assert len(run(tmp_path)) == 1


def test_xml_files_may_lie_in_a_folder_of_their_own_and_twice(
    tmp_path: Path, case: MakeCase, annotate: Annotate
) -> None:
    first, second = case("LIDC-IDRI-0001"), case("LIDC-IDRI-0002")
    annotate(report(first.uid, [nodule(rois(sphere(), first), 1)]), "xml/157/158.XML")
    annotate(report(second.uid, [nodule(rois(sphere(), second), 2)]), "xml/157/159.xml")
    annotate(report(second.uid, [nodule(rois(sphere(), second), 2)]), "LIDC-IDRI-0002/071.xml")
    assert [(x["patient"], x["malignancy"]) for x in run(tmp_path)] == [
        ("LIDC-IDRI-0001", [1]),
        ("LIDC-IDRI-0002", [2]),
    ]


def test_xml_files_behind_a_link_are_found_and_hidden_ones_are_not(
    tmp_path: Path, case: MakeCase, annotate: Annotate
) -> None:
    series = case()
    file = annotate(report(series.uid, [nodule(rois(sphere(), series))]))
    (file.parent / "._069.xml").write_bytes(b"what macOS leaves on foreign disks")
    (tmp_path / "download" / "LIDC-IDRI-0001").rename(tmp_path / "elsewhere")
    (tmp_path / "download" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "download")
    assert [x["malignancy"] for x in run(tmp_path)] == [[3]]


def test_two_series_of_a_patient_have_masks_of_their_own(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    for study in ("a", "b"):
        series = case(study=study)
        annotate(report(series.uid, [nodule(rois(sphere(), series))]), f"{study}.xml")
    assert [Path(x["mask"]).name for x in run(tmp_path)] == ["LIDC-IDRI-0001_01.nii.gz", "LIDC-IDRI-0001_02.nii.gz"]


def test_what_has_no_partner_or_is_no_volume_is_passed_over_with_a_warning(
    tmp_path: Path, case: MakeCase, annotate: Annotate, caplog: pytest.LogCaptureFixture
) -> None:
    whole, bare, broken = case(), case("LIDC-IDRI-0002"), case("LIDC-IDRI-0003", leave_out=[4])
    annotate(report(whole.uid, [nodule(rois(sphere(), whole))]))
    annotate(report(broken.uid, [nodule(rois(sphere(), broken))]), "broken.xml")
    annotate(report("1.2.3", [nodule(rois(sphere(), bare))]), "lonely.xml")
    annotate(report(bare.uid, [], root="IdriReadMessage"), "radiograph.xml")
    write_object(tmp_path / "download" / "measures.dcm", "1.2.840.10008.5.1.4.1.1.88.33", "SR")
    with caplog.at_level(logging.WARNING):
        assert [entry["patient"] for entry in run(tmp_path)] == ["LIDC-IDRI-0001"]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 4
    assert warnings[0].startswith("passed over 1 x SR")
    assert "LIDC-IDRI-0003" in warnings[1]
    assert "misses slices" in warnings[1]
    assert "1 DICOM series without XML file" in warnings[2]
    assert "LIDC-IDRI-0002" in warnings[2]
    assert warnings[3].startswith("Passed over 2 XML files whose series is not there or not one volume, the first is ")
    assert warnings[3].endswith(f"broken.xml, series {broken.uid}")


def test_a_second_call_finds_its_work_done(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series))]))
    run(tmp_path)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "lidc").rglob("*")}
    assert not import_lidc(tmp_path / "download", tmp_path / "lidc")
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "lidc").rglob("*")} == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["download", "lidc"]


def test_a_correction_of_the_annotations_is_taken_and_said(
    tmp_path: Path, case: MakeCase, annotate: Annotate, caplog: pytest.LogCaptureFixture
) -> None:
    series, other, gone = (case(f"LIDC-IDRI-000{number}") for number in (1, 2, 3))
    annotate(report(series.uid, [nodule(rois(sphere(), series), 1)]))
    annotate(report(other.uid, [nodule(rois(sphere(), other), 3)]), "2.xml")
    file = annotate(report(gone.uid, [nodule(rois(sphere(), gone), 3)]), "3.xml")
    run(tmp_path)
    (tmp_path / "lidc" / "notes.txt").write_text("mine")
    annotate(report(series.uid, [nodule(rois(sphere(radius=4), series), 5)]))
    file.unlink()
    caplog.clear()
    assert [(x["patient"], x["malignancy"]) for x in run(tmp_path)] == [
        ("LIDC-IDRI-0001", [5]),
        ("LIDC-IDRI-0002", [3]),
    ]
    mask = in_series(tmp_path / "lidc" / "masks" / "LIDC-IDRI-0001_01.nii.gz")
    np.testing.assert_array_equal(mask, sphere(radius=4))
    assert (tmp_path / "lidc" / "notes.txt").read_text() == "mine"
    assert sorted(x.name for x in (tmp_path / "lidc" / "masks").iterdir()) == [
        "LIDC-IDRI-0001_01.nii.gz",
        "LIDC-IDRI-0002_01.nii.gz",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["download", "lidc"]
    place = "../download/LIDC-IDRI-000{}/01-01-2000-30178/3000566-03192"
    assert caplog.records[-1].getMessage() == (
        f"{tmp_path / 'lidc'} was written anew, since its source has changed: 1 series changed ({place.format(1)}); "
        f"1 series no longer with a source ({place.format(3)})."
    )
    assert not import_lidc(tmp_path / "download", tmp_path / "lidc")


def test_a_series_that_was_completed_is_taken(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series, broken = case("LIDC-IDRI-0001"), case("LIDC-IDRI-0002", leave_out=[4])
    annotate(report(series.uid, [nodule(rois(sphere(), series))]))
    annotate(report(broken.uid, [nodule(rois(sphere(), broken))]), "2.xml")
    assert len(run(tmp_path)) == 1
    shutil.rmtree(tmp_path / "download" / "LIDC-IDRI-0002")
    case("LIDC-IDRI-0002")
    assert len(run(tmp_path)) == 2


def edit_mask(folder: Path) -> None:
    file = folder / "masks" / "LIDC-IDRI-0001_01.nii.gz"
    nib.save(nib.Nifti1Image(nib.load(file).get_fdata() * 0, nib.load(file).affine), file)


def edit_listing(folder: Path) -> None:
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    content["nodules"][0]["set"] = "training"
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def delete_mask(folder: Path) -> None:
    (folder / "masks" / "LIDC-IDRI-0001_01.nii.gz").unlink()


@pytest.mark.parametrize(
    ("edit", "name"), [(edit_mask, "_01.nii.gz"), (delete_mask, "_01.nii.gz"), (edit_listing, "dataset.json")]
)
def test_what_somebody_changed_is_not_written_over(
    tmp_path: Path, case: MakeCase, annotate: Annotate, edit: Callable[[Path], None], name: str
) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series), 1)]))
    run(tmp_path)
    edit(tmp_path / "lidc")
    before = {file: file.read_bytes() for file in (tmp_path / "lidc").rglob("*") if file.is_file()}
    assert not import_lidc(tmp_path / "download", tmp_path / "lidc")  # the source is the same
    annotate(report(series.uid, [nodule(rois(sphere(), series), 2)]))
    with pytest.raises(FileExistsError, match=rf"{name} was changed or deleted since it was imported"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")
    assert {file: file.read_bytes() for file in (tmp_path / "lidc").rglob("*") if file.is_file()} == before


def test_an_import_from_elsewhere_is_left_alone(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series), 1)]))
    run(tmp_path)
    shutil.copytree(tmp_path / "download", tmp_path / "second half")
    with pytest.raises(FileExistsError, match=r"lidc was imported from \.\./download; choose another folder"):
        import_lidc(tmp_path / "second half", tmp_path / "lidc")


@pytest.mark.parametrize("content", ["not json", "[]", '{"nodules": [], "provenance": 3}', '{"labels": {}}'])
def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, case: MakeCase, annotate: Annotate, content: str
) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series), 1)]))
    (tmp_path / "lidc").mkdir()
    (tmp_path / "lidc" / "dataset.json").write_text(content)
    with pytest.raises(FileExistsError, match="lidc already holds other data"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")
    assert (tmp_path / "lidc" / "dataset.json").read_text() == content


def test_a_mask_of_somebody_else_is_not_written_over(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series), 1)]))
    run(tmp_path)
    own = tmp_path / "lidc" / "masks" / "LIDC-IDRI-0001_02.nii.gz"
    own.write_text("mine")
    second = nodule(rois(sphere((10, 10, 5), 3), series), 4)
    annotate(report(series.uid, [nodule(rois(sphere(), series), 1) + second]))
    with pytest.raises(FileExistsError, match=r"_02\.nii\.gz has the name of a mask that the import would write"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")
    assert own.read_text() == "mine"


def test_an_import_that_cannot_move_its_result_puts_the_old_one_back(
    tmp_path: Path, case: MakeCase, annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series), 1)]))
    run(tmp_path)
    before = {file: file.read_bytes() for file in (tmp_path / "lidc").rglob("*") if file.is_file()}
    annotate(report(series.uid, [nodule(rois(sphere(), series), 2)]))
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(".lidc-") and self.name == "lidc":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space left"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")
    assert {file: file.read_bytes() for file in (tmp_path / "lidc").rglob("*") if file.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["download", "lidc"]


def test_equal_downloads_give_equal_bytes_wherever_the_pair_lies(
    tmp_path: Path, case: MakeCase, annotate: Annotate
) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series))] * 2))
    run(tmp_path)
    shutil.copytree(tmp_path / "download", tmp_path / "elsewhere" / "download")
    import_lidc(tmp_path / "elsewhere" / "download", tmp_path / "elsewhere" / "lidc")
    names = [file.relative_to(tmp_path / "lidc") for file in (tmp_path / "lidc").rglob("*") if file.is_file()]
    assert len(names) == 2
    for name in names:
        assert (tmp_path / "lidc" / name).read_bytes() == (tmp_path / "elsewhere" / "lidc" / name).read_bytes()


def test_images_on_another_drive_are_named_in_full(
    tmp_path: Path, case: MakeCase, annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, start: object) -> str:
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series))]))
    monkeypatch.setattr(os.path, "relpath", refuse)
    (entry,) = run(tmp_path)
    assert os.path.isabs(entry["image"])


def test_outlines_that_miss_each_other_still_give_a_mask(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    uid = series.instance_uids[12]
    ring = roi(uid, walk_around(sphere(CENTRE, 8)[:, :, 12])) + roi(
        uid, walk_around(sphere(CENTRE, 6)[:, :, 12]), "FALSE"
    )
    dots = [roi(uid, [(x, 26)]) for x in (29, 31)]
    annotate(report(series.uid, [nodule(x) for x in (ring, *dots)]))
    (entry,) = run(tmp_path)
    mask = in_series(tmp_path / "lidc" / entry["mask"])
    assert mask[29, 26, 12]
    assert mask[31, 26, 12]
    assert label(mask).max() == 3


SQUARE = ((10, 10), (10, 20), (20, 20), (20, 10))


@pytest.mark.parametrize(
    ("slice_uid", "points", "inclusion", "message"),
    [
        ("1.2.99", SQUARE, "TRUE", r"069\.xml outlines slice 1\.2\.99 at 72\.5 mm, which .* does not hold"),
        (None, [(x + 45, y) for x, y in SQUARE], "TRUE", r"069\.xml has an outline beyond the 60 x 50 pixels"),
        (None, SQUARE, "FALSE", r"069\.xml has a nodule of reader 1 without a voxel"),
    ],
    ids=["unknown slice", "too far", "nothing left"],
)
def test_outlines_that_do_not_fit_the_series_are_named(
    tmp_path: Path, case: MakeCase, annotate: Annotate, slice_uid: str | None, points: Any, inclusion: str, message: str
) -> None:
    series = case()
    annotate(report(series.uid, [nodule(roi(slice_uid or series.instance_uids[3], points, inclusion))]))
    with pytest.raises(ValueError, match=message):
        import_lidc(tmp_path / "download", tmp_path / "lidc")
    assert [path.name for path in tmp_path.iterdir()] == ["download"]


def test_two_reports_that_contradict_each_other_are_named(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series), 1)]), "a.xml")
    annotate(report(series.uid, [nodule(rois(sphere(), series), 2)]), "b.xml")
    with pytest.raises(ValueError, match=rf"a\.xml and .*b\.xml report differently on series {series.uid}"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")


def test_two_reports_with_the_same_readings_count_once(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    seen = [nodule(rois(sphere(), series), 1), nodule(rois(sphere(), series), 2)]
    annotate(report(series.uid, seen), "a.xml")
    annotate(report(series.uid, seen[::-1], namespace="").replace('uid="1.3.6"', 'uid="1.3.7"'), "b.xml")
    assert [x["malignancy"] for x in run(tmp_path)] == [[1, 2]]


def test_a_resubmitted_correction_wins_and_it_is_said(
    tmp_path: Path, case: MakeCase, annotate: Annotate, caplog: pytest.LogCaptureFixture
) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series), 1), nodule(rois(sphere(), series), 5)]), "157/161.xml")
    annotate(report(series.uid, [nodule(rois(sphere(), series), 5)]), "161-resubmitted-correction-3-9-12.xml")
    assert [x["malignancy"] for x in run(tmp_path)] == [[5]]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"Left out .*157/161\.xml: .*161-resubmitted-correction-3-9-12\.xml corrects it\.", warning)
    annotate(report(series.uid, [nodule(rois(sphere(), series), 4)]), "another Correction.xml")
    with pytest.raises(ValueError, match=r"161-resubmitted-correction.* and .*another Correction\.xml report differ"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")


def test_what_the_readers_left_open_is_left_out_with_a_warning(
    tmp_path: Path, case: MakeCase, annotate: Annotate, caplog: pytest.LogCaptureFixture
) -> None:
    series = case()
    point = nodule(roi(series.instance_uids[5], [(9, 9)]), 0)
    outlined = f"<unblindedReadNodule><noduleID>8</noduleID>{rois(sphere(), series)}</unblindedReadNodule>"
    annotate(report(series.uid, [nodule(rois(sphere(), series), 2) + point, outlined]))
    assert [x["malignancy"] for x in run(tmp_path)] == [[2]]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert "of malignancy 0; it is left out" in warnings[0]
    assert "has no malignancy or any other score; it is left out" in warnings[1]


def test_an_outline_that_a_reader_repeated_counts_once_and_it_is_said(
    tmp_path: Path, case: MakeCase, annotate: Annotate, caplog: pytest.LogCaptureFixture
) -> None:
    series = case()
    twice = nodule(rois(sphere(radius=5), series), 4, "a") + nodule(rois(sphere(), series), 2, "b")
    annotate(report(series.uid, [twice, nodule(rois(sphere(), series), 5)]))
    (entry,) = run(tmp_path)
    assert entry["malignancy"] == [2, 5]
    np.testing.assert_array_equal(in_series(tmp_path / "lidc" / entry["mask"]), sphere())
    (warning,) = [record.getMessage() for record in caplog.records]
    sizes = [int(sphere(radius=radius).sum()) for radius in (5, 6)]
    assert warning.endswith(
        f"069.xml: reader 1 outlined one nodule 2 times: a (malignancy 4, {sizes[0]} voxels) and b (malignancy 2, "
        f"{sizes[1]} voxels). They count once, with the malignancy of the largest, 2."
    )


def test_a_slice_that_a_report_puts_at_two_heights_goes_by_the_height(
    tmp_path: Path, case: MakeCase, annotate: Annotate, caplog: pytest.LogCaptureFixture
) -> None:
    # as nodule 2644 in 187/139.xml of LIDC-IDRI
    series = case()
    right = rois(sphere(), series)
    wrong = right.replace(f"{series.instance_uids[13]}<", f"{series.instance_uids[12]}<")
    assert wrong != right
    annotate(report(series.uid, [nodule(wrong)]))
    (entry,) = run(tmp_path)
    np.testing.assert_array_equal(in_series(tmp_path / "lidc" / entry["mask"]), sphere())
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"slice {series.instance_uids[12]} is said to lie at -35 and -33.75 mm; it goes by" in warning
    annotate(report(series.uid, [nodule(wrong.replace("-33.75", "-33.2"))]))
    with pytest.raises(ValueError, match=r"at -33\.2 mm, which .* does not hold"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")


def test_slices_of_an_unknown_uid_go_by_their_height(
    tmp_path: Path, case: MakeCase, annotate: Annotate, caplog: pytest.LogCaptureFixture
) -> None:
    # as in 185/100.xml and 189/151.xml of LIDC-IDRI, where readers call slices of one height by different UIDs
    series = case()
    other = WrittenSeries("1.9", [f"1.9.{number + 1}" for number in range(SHAPE[2])])
    annotate(report(series.uid, [nodule(rois(sphere(), x), score) for x, score in ((series, 2), (other, 3))]))
    (entry,) = run(tmp_path)
    assert entry["malignancy"] == [2, 3]
    np.testing.assert_array_equal(in_series(tmp_path / "lidc" / entry["mask"]), sphere())
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "9 of the 18 slices that it outlines have a UID that " in warning


def test_series_in_one_folder_or_split_over_two_are_imported_and_can_be_read(
    tmp_path: Path, annotate: Annotate
) -> None:
    folders = ("both", "both", "split/1")
    written = [
        write_series(tmp_path / "download" / folder, np.full(SHAPE, n), AFFINE, f"P{n}", series_uid=f"1.2.{n}")
        for n, folder in enumerate(folders)
    ]
    (tmp_path / "download" / "split" / "2").mkdir()
    for number in range(9, 15):
        file = tmp_path / "download" / "split" / "1" / f"{number:06}.dcm"
        file.rename(file.parents[1] / "2" / file.name)
    for n, series in enumerate(written):
        annotate(report(series.uid, [nodule(rois(sphere(), series), 1 + n)]), f"{n}.xml")
    places = [(x["image"], x["patient"], x["malignancy"]) for x in run(tmp_path)]
    assert places == [
        ("../download/both::1.2.0", "P0", [1]),
        ("../download/both::1.2.1", "P1", [2]),
        ("../download/split::1.2.2", "P2", [3]),
    ]
    for n, item in enumerate(list_nodules(tmp_path / "lidc")):
        image = open_scan(item["image"])
        assert image.shape == SHAPE
        assert (image.read() == n).all()
        np.testing.assert_allclose(item["center_mm"], apply_affine(AFFINE, CENTRE), atol=1e-3)


@pytest.mark.parametrize("slices", [[0], [0, 1]], ids=["of one", "of both"])
def test_of_two_volumes_of_one_uid_the_one_that_was_outlined_is_taken(
    tmp_path: Path, annotate: Annotate, caplog: pytest.LogCaptureFixture, slices: list[int]
) -> None:
    uids: list[list[str]] = []

    def acquire(number: int) -> None:
        uids.append([f"1.2.3.{number}.{k + 1}" for k in range(SHAPE[2])])

        def change(header: Dataset, k: int) -> None:
            header.AcquisitionNumber, header.SOPInstanceUID = number, uids[-1][k]

        write_slices(tmp_path / "download" / "ct", np.zeros(SHAPE, np.int16), AFFINE, change, uid="1.2.3")

    acquire(1)
    acquire(2)
    annotate(report("1.2.3", [nodule("".join(rois(sphere(), WrittenSeries("1.2.3", uids[n])) for n in slices))]))
    if len(slices) == 1:
        (entry,) = run(tmp_path)
        assert entry["image"] == "../download/ct::1.2.3_acquisition_1"
    else:
        with pytest.raises(ValueError, match="no nodule"):
            import_lidc(tmp_path / "download", tmp_path / "lidc")
        assert "069.xml: its outlines are not in one of " in caplog.text


def test_a_series_without_patient_is_named(tmp_path: Path, annotate: Annotate) -> None:
    series = write_series(tmp_path / "download" / "ct", np.zeros(SHAPE), AFFINE, patient="")
    annotate(report(series.uid, [nodule(rois(sphere(), series))]))
    with pytest.raises(ValueError, match="ct names no patient"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")


def test_a_download_without_nodules_or_that_is_not_there_is_named(
    tmp_path: Path, case: MakeCase, annotate: Annotate
) -> None:
    with pytest.raises(FileNotFoundError, match="download is no folder"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")
    series = case()
    annotate(report(series.uid, [small(series)]))
    with pytest.raises(ValueError, match="download holds no nodule of 3 mm or more"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")
    assert [path.name for path in tmp_path.iterdir()] == ["download"]
