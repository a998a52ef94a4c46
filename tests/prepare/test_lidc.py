from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from skimage.measure import label
from skimage.segmentation import find_boundaries

from med3d_components.prepare.lidc import import_lidc
from tests.data.dicom_files import WrittenSeries, write_series

SHAPE = (60, 50, 24)
AFFINE = np.array([[-0.7, 0, 0, 20], [0, -0.7, 0, 15], [0, 0, 1.25, -50], [0, 0, 0, 1]])
CENTRE = (30, 26, 12)
NIH = ' xmlns="http://www.nih.gov"'


def sphere(centre: Sequence[float] = CENTRE, radius: float = 6.0) -> NDArray[np.bool_]:
    """Return the voxels within ``radius`` mm of a voxel of the series."""
    steps = np.moveaxis(np.indices(SHAPE), 0, -1) - np.asarray(centre)
    return np.linalg.norm(steps * np.abs(np.diag(AFFINE))[:3], axis=-1) <= radius


def roi(instance_uid: str, points: Sequence[Sequence[int]], inclusion: str = "TRUE") -> str:
    edge = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>\n" for x, y in points)
    return (
        f"<roi><imageZposition>-42.5</imageZposition><imageSOP_UID>{instance_uid}</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>\n{edge}</roi>\n"
    )


def walk_around(region: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return the pixels just outside a star-shaped region, by their angle as seen from its middle."""
    outside = np.argwhere(find_boundaries(region, mode="outer", connectivity=1))
    x, y = (outside - np.argwhere(region).mean(axis=0)).T
    return outside[np.argsort(np.arctan2(y, x))].tolist()


def rois(nodule: NDArray[np.bool_], series: WrittenSeries) -> str:
    slices = np.flatnonzero(nodule.any(axis=(0, 1)))
    return "".join(roi(series.instance_uids[k], walk_around(nodule[:, :, k])) for k in slices)


def nodule(content: str, malignancy: object = 3, name: str = "Nodule 001") -> str:
    scores = {"subtlety": 4, "calcification": 6, "texture": 5, "malignancy": malignancy}
    characteristics = "".join(f"<{key}>{value}</{key}>" for key, value in scores.items())
    return (
        f"<unblindedReadNodule><noduleID>{name}</noduleID><characteristics>{characteristics}</characteristics>\n"
        f"{content}</unblindedReadNodule>\n"
    )


def small(series: WrittenSeries) -> str:
    """Return a nodule below 3 mm: a point and no characteristics."""
    return f"<unblindedReadNodule><noduleID>7</noduleID>{roi(series.instance_uids[5], [(9, 9)])}</unblindedReadNodule>"


def report(uid: str, sessions: Sequence[str], namespace: str = NIH, root: str = "LidcReadMessage") -> str:
    readings = "".join(
        f"<readingSession><annotationVersion>3.12</annotationVersion><servicingRadiologistID>anon{number}"
        f"</servicingRadiologistID>\n{session}<nonNodule><nonNoduleID>{number}</nonNoduleID><imageZposition>-42.5"
        "</imageZposition><imageSOP_UID>1.9.9</imageSOP_UID><locus><xCoord>3</xCoord><yCoord>4</yCoord></locus>"
        "</nonNodule></readingSession>\n"
        for number, session in enumerate(sessions)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} uid="1.3.6"{namespace}>\n<ResponseHeader><Version>1.8.1'
        f"</Version><SeriesInstanceUid>{uid}</SeriesInstanceUid></ResponseHeader>\n{readings}</{root}>\n"
    )


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
    near, far = sphere((31, 26, 12), 3), sphere((35, 26, 12), 3)
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
    with caplog.at_level(logging.WARNING):
        assert [entry["patient"] for entry in run(tmp_path)] == ["LIDC-IDRI-0001"]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 4
    assert "LIDC-IDRI-0003" in warnings[0]
    assert "misses slices" in warnings[0]
    assert "1 DICOM series without XML file" in warnings[1]
    assert "LIDC-IDRI-0002" in warnings[1]
    assert "broken.xml" in warnings[2]
    assert "lonely.xml: its series 1.2.3" in warnings[3]


def test_a_second_call_finds_its_work_done(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series))]))
    run(tmp_path)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "lidc").rglob("*")}
    assert not import_lidc(tmp_path / "download", tmp_path / "lidc")
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "lidc").rglob("*")} == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["download", "lidc"]


def test_other_annotations_are_other_work(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series), 1)]))
    run(tmp_path)
    annotate(report(series.uid, [nodule(rois(sphere(), series), 2)]))
    with pytest.raises(FileExistsError, match="lidc already holds other data"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<LidcReadMessage", r"069\.xml is no readable XML"),
        ("<LidcReadMessage/>", r"069\.xml has no ResponseHeader/SeriesInstanceUid in its LidcReadMessage"),
    ],
)
def test_a_damaged_xml_file_is_named(
    tmp_path: Path, case: MakeCase, annotate: Annotate, content: str, message: str
) -> None:
    case()
    annotate(content)
    with pytest.raises(ValueError, match=message):
        import_lidc(tmp_path / "download", tmp_path / "lidc")


@pytest.mark.parametrize("malignancy", ["0", "6", "", "high"])
def test_a_malignancy_outside_1_to_5_is_named(
    tmp_path: Path, case: MakeCase, annotate: Annotate, malignancy: str
) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series), malignancy)]))
    with pytest.raises(
        ValueError, match=rf"069\.xml gives nodule Nodule 001 the malignancy '{malignancy}', not 1 to 5"
    ):
        import_lidc(tmp_path / "download", tmp_path / "lidc")


def test_a_malignancy_that_is_missing_is_named(tmp_path: Path, case: MakeCase, annotate: Annotate) -> None:
    series = case()
    annotate(report(series.uid, [nodule(rois(sphere(), series))]).replace("<malignancy>3</malignancy>", ""))
    with pytest.raises(ValueError, match=r"069\.xml gives nodule Nodule 001 the malignancy 'nothing'"):
        import_lidc(tmp_path / "download", tmp_path / "lidc")


SQUARE = ((10, 10), (10, 20), (20, 20), (20, 10))


@pytest.mark.parametrize(
    ("slice_uid", "points", "inclusion", "message"),
    [
        ("1.2.3", SQUARE, "TRUE", r"069\.xml outlines slice 1\.2\.3, which .* does not hold"),
        (None, [(x + 45, y) for x, y in SQUARE], "TRUE", r"069\.xml has an outline beyond the 60 x 50 pixels"),
        (None, SQUARE, "FALSE", r"069\.xml has a nodule of reader 1 without a voxel"),
        (None, [], "TRUE", r"069\.xml has a roi without edgeMap"),
        (None, [("a", 10)], "TRUE", r"069\.xml has an edgeMap whose coordinates are no whole numbers"),
    ],
    ids=["unknown slice", "too far", "nothing left", "no edge", "no number"],
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
