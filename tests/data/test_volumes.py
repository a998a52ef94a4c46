from __future__ import annotations

import gzip
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest

from med3d_components.data.datalists import ImageDatalist
from med3d_components.data.folders import list_images, list_scans
from med3d_components.data.scan import case_name
from med3d_components.data.volumes import Header, open_scan, read_header
from med3d_components.prepare.pairing import pair_folders
from med3d_components.transforms import FastLoadImaged
from tests.data.dicom_files import write_series

AFFINE = np.array([[0, -0.8, 0, 5], [0, 0, 2, 6], [1.5, 0, 0, -7], [0, 0, 0, 1]])


def test_files_and_dicom_folders_are_listed_and_what_is_left_out_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b.nrrd", "a.nii.gz", "notes.txt", "._a.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    series = write_series(tmp_path / "c", np.zeros((4, 5, 3)), np.eye(4))
    names = {"a": "a.nii.gz", "b": "b.nrrd", series.uid: "c"}
    assert list_images(tmp_path) == [{"image": str(tmp_path / path), "case": name} for name, path in names.items()]
    assert [record.message for record in caplog.records] == ["2 entries are no volumes: empty, notes.txt."]
    for name, path in names.items():
        assert list_scans(tmp_path / path).scans == {name: str(tmp_path / path)}
    for path in ("none", "notes.txt", "empty"):
        with pytest.raises(FileNotFoundError, match=r"holds no volume.*; give a \.nii, .* file"):
            list_scans(tmp_path / path)


def test_scans_at_any_depth_are_listed_beside_flat_ones_by_names_that_their_neighbours_do_not_change(
    tmp_path: Path,
) -> None:
    series = write_series(tmp_path / "patient" / "study" / "series", np.zeros((4, 5, 3)), np.eye(4))
    other = write_series(tmp_path / "p.1", np.zeros((4, 5, 3)), np.eye(4))
    for name in ("p.nii.gz", "patient/ct.nrrd", "patient/study/series/ct.mha"):
        (tmp_path / name).touch()
    assert list_scans(tmp_path) == (
        {
            other.uid: str(tmp_path / "p.1"),
            "p": str(tmp_path / "p.nii.gz"),
            "patient/ct": str(tmp_path / "patient/ct.nrrd"),
            series.uid: str(tmp_path / "patient/study/series"),
            "patient/study/series/ct": str(tmp_path / "patient/study/series/ct.mha"),
        },
        {},
        [],
    )


def test_each_series_of_a_folder_is_a_scan_that_is_read_by_its_name(tmp_path: Path) -> None:
    values = {uid: np.full((4, 5, 3), hounsfield) for uid, hounsfield in (("1.2.3", -50), ("1.2.4", 70))}
    for uid, volume in values.items():
        write_series(tmp_path / "p" / "two", volume, np.eye(4), series_uid=uid)
    items = list_images(tmp_path)
    assert items == [{"image": f"{tmp_path}/p/two::{uid}", "case": uid} for uid in values]
    for item in items:
        assert list_images(item["image"]) == [item]
        scan = open_scan(item["image"])
        assert (scan.name, scan.shape, scan.modality) == (item["case"], (4, 5, 3), "CT")
        loaded = FastLoadImaged("image")({"image": item["image"]})["image"]
        assert np.array_equal(loaded, values[item["case"]])
        assert loaded.meta["filename_or_obj"] == item["image"]
    with pytest.raises(ValueError, match=r"two holds 2 series: 1\.2\.3 \(3 slices\), 1\.2\.4"):
        open_scan(tmp_path / "p" / "two")


def test_links_are_followed_and_told_where_they_lead_nowhere_or_round(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "cases").mkdir(parents=True)
    (tmp_path / "elsewhere" / "cases" / "b.nii").touch()
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "cases").symlink_to(tmp_path / "elsewhere" / "cases")
    (folder / "a.nii").symlink_to(tmp_path / "elsewhere" / "cases" / "b.nii")
    (folder / "gone.nii.gz").symlink_to(tmp_path / "annex" / "object")
    (folder / "loop").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    found = list_scans(folder)
    assert list(found.scans) == ["a", "cases/b"]
    assert found.notes == [
        "2 entries are links to nothing: gone.nii.gz, self.",
        "1 entry is a link to a folder that is listed already: loop.",
    ]


def test_masks_and_results_of_an_earlier_inference_are_no_scans(tmp_path: Path) -> None:
    results = ("out/a_liver.nii.gz", "out/c/d;%3B_seg.nii")
    names = ("a.nii.gz", "a_seg.nii.gz", "b_seg.nii.gz", *results, "out/a_followup.nii", "own/p.nii", "own/p_2.nii")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    table = "\ufeffcase,files,fingerprint\na,a_liver.nii.gz;a_overlay.png,1f\nx,,\nc/d,c/d%3B%253B_seg.nii,2f\n"
    (tmp_path / "out" / "scans.csv").write_text(table, encoding="utf-8")
    (tmp_path / "own" / "scans.csv").write_text("case,sex,files\np,f,p.nii\n")
    found = list_scans(tmp_path)
    assert list(found.scans) == ["a", "b_seg", "out/a_followup", "own/p", "own/p_2"]
    assert found.notes == [
        "2 entries are no volumes: out/scans.csv, own/scans.csv.",
        "1 entry is the mask of another: a_seg.nii.gz.",
        f"2 entries are results of an earlier inference: {', '.join(results)}.",
    ]
    assert "a_seg" in list_scans(tmp_path, masks=True).scans


@pytest.mark.parametrize(
    "name", ["p-label.nrrd", "p_segmentation.nii", "p-segmentation.mha", "p_labels.nii.gz", "p.seg.nrrd", "q.seg.nrrd"]
)
def test_a_segmentation_is_no_scan_unless_masks_are_wanted(tmp_path: Path, name: str) -> None:
    for file in ("p.nii.gz", name):
        (tmp_path / file).touch()
    found = list_scans(tmp_path)
    assert list(found.scans) == ["p"]
    assert found.notes == [f"1 entry is the mask of another: {name}."]
    assert list_scans(tmp_path, masks=True).scans.keys() == {"p", case_name(name)}
    if name.startswith("p.seg"):
        with pytest.raises(
            FileNotFoundError, match=r"holds no volume \(1 entry is the mask of another: p\.seg\.nrrd\)"
        ):
            list_scans(tmp_path / name)


def test_the_labels_of_a_decathlon_task_are_no_scans(tmp_path: Path) -> None:
    for task in ("Task", "Other"):
        for part in ("imagesTr/a", "labelsTr/a", "imagesTs/b", "labelsTs/b"):
            (tmp_path / task / part).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / task / f"{part}.nii.gz").touch()
    (tmp_path / "Task" / "dataset.json").write_text('{"labels": {"0": "background"}, "training": []}')
    (tmp_path / "Other" / "dataset.json").write_text('{"nodules": []}')
    found = list_scans(tmp_path / "Task")
    assert list(found.scans) == ["imagesTr/a", "imagesTs/b"]
    assert found.notes[1] == "2 entries are folders of labels: labelsTr, labelsTs."
    assert len(list_scans(tmp_path).scans) == 6
    assert len(list_scans(tmp_path, masks=True).scans) == 8
    assert list(list_scans(tmp_path / "Task" / "labelsTr").scans) == ["a"]


def test_each_broken_series_is_an_item_of_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, place in enumerate(("", "DICOM", "p::1", "q::1", "DICOM_dicom")):
        folder = tmp_path / "DICOM" / place
        write_series(folder, np.zeros((4, 5, 6)), np.eye(4), series_uid=f"1.2.{number}", leave_out={2})
    (tmp_path / "DICOM" / "below").mkdir()
    monkeypatch.chdir(tmp_path / "DICOM" / "below")
    for root in (tmp_path / "DICOM", Path("..")):
        items = list_images(root)
        assert all("misses slices" in item["error"] for item in items)
        assert {item["case"]: item["image"] for item in items} == {
            "DICOM": str(root),
            "DICOM_dicom": str(root / "DICOM"),
            "DICOM_dicom_dicom": str(root / "DICOM_dicom"),
            "p::1": str(root / "p::1"),
            "q::1": str(root / "q::1"),
        }


def test_a_dicom_folder_without_a_readable_series_does_not_keep_the_others_from_being_read(tmp_path: Path) -> None:
    write_series(tmp_path / "bad", np.zeros((4, 5, 6)), np.eye(4), leave_out={2, 3})
    (alone,) = list_images(tmp_path / "bad")
    assert "bad misses slices" in alone.pop("error")
    assert alone == {"image": str(tmp_path / "bad"), "case": "bad"}
    (tmp_path / "bad.nii").touch()
    good, bad = list_images(tmp_path)
    assert good == {"image": str(tmp_path / "bad.nii"), "case": "bad"}
    assert "bad misses slices" in bad.pop("error")
    assert bad == {"image": str(tmp_path / "bad"), "case": "bad_dicom"}
    with pytest.raises(ValueError, match="bad misses slices"):
        open_scan(tmp_path / "bad")
    (tmp_path / "bad" / "flat.nii").touch()
    write_series(tmp_path / "bad", np.zeros((4, 5, 6)), np.eye(4), series_uid="1.2.4")
    items = {item["case"]: item["image"] for item in list_images(tmp_path / "bad")}
    assert len(items) == 3
    assert {"1.2.4", "flat"} < items.keys()
    with pytest.raises(ValueError, match="misses slices"):
        open_scan(items[next(iter(items.keys() - {"1.2.4", "flat"}))])


def test_volumes_whose_results_would_have_one_name_fail_and_the_others_are_listed(tmp_path: Path) -> None:
    for name in ("ct.nii.gz", "ct.nii"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"ct\.nii and .*ct\.nii\.gz have one name, ct, .*; rename one"):
        list_images(tmp_path)
    for refused in (lambda: ImageDatalist(tmp_path), lambda: pair_folders(tmp_path, tmp_path / "labels")):
        with pytest.raises(ValueError, match=r"^[^;]* have one name, ct, [^;]*; [^;]*$"):
            refused()
    series = write_series(tmp_path / "series", np.zeros((4, 5, 3)), np.eye(4))
    (tmp_path / f"{series.uid}.nii.gz").touch()
    (tmp_path / "good.nii").touch()
    items = {item["case"]: item for item in list_images(tmp_path)}
    assert items.keys() == {"good", "ct.nii", "ct.nii.gz", "series", f"{series.uid}.nii.gz"}
    assert "error" not in items.pop("good")
    assert all("have one name" in item["error"] for item in items.values())


@pytest.mark.parametrize(
    ("path", "name"),
    [("x/scan.nii.gz", "scan"), ("scan.NII", "scan"), ("scan.v1.nrrd", "scan.v1"), ("series.1", "series.1")],
)
def test_the_name_of_a_case_is_that_of_its_file_without_the_format(path: str, name: str) -> None:
    assert case_name(path) == name


def save(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=shape).astype(np.float32), affine), path)
    return path


def test_size_and_spacing_are_given_along_the_axes_of_ras(tmp_path: Path) -> None:
    # Array axes run superior, left, anterior, at 3, 1 and 2 mm.
    affine = np.array([[0, -1, 0, 0], [0, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    header = read_header(save(tmp_path / "a.nii.gz", (5, 6, 7), affine))
    assert header == Header(size=(6, 7, 5), spacing=(1.0, 2.0, 3.0), channels=1)


def test_the_fourth_axis_counts_channels(tmp_path: Path) -> None:
    assert read_header(save(tmp_path / "a.nii", (5, 6, 7, 4), np.eye(4))).channels == 4


def test_a_truncated_gzip_file_is_recognised_by_its_header_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", (30, 30, 30), np.eye(4))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"a\.nii\.gz is cut off"):
        read_header(path)


def test_a_gzip_file_of_several_members_is_read_in_full_before_it_is_judged(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", (20, 20, 20), np.eye(4))
    content = path.read_bytes()
    joined = tmp_path / "b.nii.gz"
    joined.write_bytes(gzip.compress(content[:9000]) + gzip.compress(content[9000:]))
    assert read_header(joined).size == (20, 20, 20)
    joined.write_bytes(gzip.compress(content[:9000]) + gzip.compress(content[9000:-500]))
    with pytest.raises(ValueError, match="cut off"):
        read_header(joined)


@pytest.mark.parametrize("behind", [b"\0" * 3000, b"trailing", b"\xff" * 200_000], ids=["zeros", "text", "much"])
@pytest.mark.parametrize("members", [1, 2])
def test_bytes_behind_a_packed_volume_do_no_harm_but_do_not_hide_damage(
    tmp_path: Path, members: int, behind: bytes
) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, (30, 31, 32)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, AFFINE), tmp_path / "a.nii")
    content, path = (tmp_path / "a.nii").read_bytes(), tmp_path / "b.nii.gz"
    packed = b"".join(map(gzip.compress, [content] if members == 1 else [content[:9000], content[9000:]]))
    path.write_bytes(packed + behind)
    scan = open_scan(path)
    np.testing.assert_array_equal(scan.voxels(), volume)
    np.testing.assert_array_equal(scan.read(), volume)
    np.testing.assert_array_equal(scan.read((1, 2, 3), (30, 31, 32)), volume[1:, 2:, 3:])
    damaged = packed[:-5000] + bytes([packed[-5000] ^ 255]) + packed[-4999:]
    for broken in (packed[:-1000] + behind, damaged + behind, packed[:-6] + behind):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"b\.nii\.gz is cut off or damaged"):
            open_scan(path)


@pytest.mark.parametrize("spacing", [0.0, np.nan])
def test_a_spacing_that_is_none_is_an_error(tmp_path: Path, spacing: float) -> None:
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), None)
    image.header["pixdim"][1] = spacing
    image.header.set_sform(np.diag([spacing, 1, 1, 1]), code=1)
    image.header.set_qform(None, code=0)
    path = tmp_path / "a.nii"
    header = image.header.copy()
    path.write_bytes(header.binaryblock + b"\0" * 4 + bytes(4 * 4 * 4 * 4))
    with pytest.raises(ValueError, match="no valid spacing"):
        read_header(path)


@pytest.mark.parametrize("code", [0, 1])
def test_a_voxel_size_of_zero_that_readers_take_for_1_mm_is_an_error_unless_it_may_be_missing(
    tmp_path: Path, code: int
) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.diag([0.7, 0.7, 2, 1]))
    image.header.set_sform(np.diag([0.7, 0.7, 2, 1]), code=code)
    image.header.set_qform(None, code=0)
    image.header["pixdim"][1:4] = 0
    path = tmp_path / "a.nii"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + bytes(4 * 5 * 6))
    with pytest.raises(ValueError, match=r"no valid spacing \(0 x 0 x 0 mm\)"):
        read_header(path)
    header = read_header(path, need_spacing=False)
    assert header.size == (4, 5, 6)
    assert np.isnan(header.spacing).all()


def test_missing_foreign_and_flat_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.nii does not exist"):
        read_header(tmp_path / "none.nii")
    foreign = tmp_path / "page.nii.gz"
    foreign.write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.nii\.gz is not a readable NIfTI file"):
        read_header(foreign)
    with pytest.raises(ValueError, match=r"has shape \(5, 6\)"):
        read_header(save(tmp_path / "flat.nii", (5, 6), np.eye(4)))


def test_a_box_is_read_as_it_lies_in_the_file(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, (7, 8, 9)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, AFFINE), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(volume[..., None], AFFINE), tmp_path / "b.nii")
    itk.imwrite(itk.imread(str(tmp_path / "a.nii.gz")), str(tmp_path / "c.nrrd"))
    for name in ("a.nii.gz", "b.nii", "c.nrrd"):
        scan = open_scan(tmp_path / name)
        assert scan.shape == (7, 8, 9)
        assert scan.affine == pytest.approx(AFFINE, abs=1e-5)
        assert scan.read().dtype == np.float32
        assert np.array_equal(scan.read(), volume)
        assert np.array_equal(scan.read((1, 2, 3), (4, 8, 4)), volume[1:4, 2:8, 3:4])


def test_a_file_that_changed_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    for size in (4, 5):
        nib.save(nib.Nifti1Image(np.zeros((size, size, size), np.float32), np.eye(4)), path)
        assert open_scan(path).shape == (size, size, size)


def test_a_given_spacing_keeps_directions_and_the_first_voxel(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), AFFINE), tmp_path / "a.nii")
    expected = AFFINE.copy()
    expected[:3, :3] = AFFINE[:3, :3] / (1.5, 0.8, 2) * (3, 4, 5)
    assert open_scan(tmp_path / "a.nii", [3, 4, 5]).affine == pytest.approx(expected)
    assert open_scan(tmp_path / "a.nii").affine == pytest.approx(AFFINE)


def test_a_point_is_inside_up_to_the_faces_of_the_outer_voxels(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.diag([1.0, 2, 3, 1])), tmp_path / "a.nii")
    scan = open_scan(tmp_path / "a.nii")
    for inside in ((-0.4, 0, 0), (3.4, 8.9, 16.4)):
        scan.check_inside(inside)
    for outside in ((-0.6, 0, 0), (0, 9.1, 0), (0, 0, 16.6)):
        with pytest.raises(ValueError, match=r"-0\.5 to 3\.5, -1\.0 to 9\.0, -1\.5 to 16\.5 mm \(RAS\)"):
            scan.check_inside(outside)


def test_what_is_no_scan_is_named(tmp_path: Path) -> None:
    for name in ("page.nrrd", "page.mha", "page.nii.gz"):
        (tmp_path / name).write_text("<html>")
        with pytest.raises(ValueError, match=rf"{name} is not a readable"):
            open_scan(tmp_path / name)
    itk.imwrite(itk.image_from_array(np.zeros((2, 4, 5, 6), np.float32)), str(tmp_path / "4d.mha"))
    with pytest.raises(ValueError, match=r"4d\.mha has 4 dimensions"):
        open_scan(tmp_path / "4d.mha")
    colour = itk.image_from_array(np.zeros((4, 5, 6, 3), np.uint8), is_vector=True)
    itk.imwrite(colour, str(tmp_path / "colour.mha"))
    with pytest.raises(ValueError, match=r"colour\.mha is 4-D, of shape \(6, 5, 4, 3\)"):
        open_scan(tmp_path / "colour.mha").read()
