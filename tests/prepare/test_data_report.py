from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from med3d_components.data import SegmentationDatalist
from med3d_components.data.folders import list_scans
from med3d_components.data.volumes import open_scan
from med3d_components.prepare.data_report import write_data_report
from med3d_components.prepare.listing import list_data
from tests.conftest import write_domain
from tests.data.channel_files import two_channels
from tests.data.dicom_files import write_series
from tests.prepare.faulty_data import FAULTS, SHAPE, draw, save, write_case, write_faulty, write_good

REAL = {"Task04_Hippocampus": 200, "sarcoma/SarcomaCT": 36}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faulty(tmp_path_factory.mktemp("secret") / "Task09_Liver")


@pytest.fixture(scope="module")
def table(faulty: Path) -> pd.DataFrame:
    write_data_report(faulty)
    return pd.read_csv(faulty / "report" / "cases.csv", index_col="case")


def page(folder: Path) -> str:
    return (folder / "report" / "report.html").read_text(encoding="utf-8")


def pictures(text: str) -> int:
    return text.count('src="data:image/jpeg;base64,')


def test_each_planted_fault_is_found_and_nothing_else(table: pd.DataFrame) -> None:
    found = {name: re.sub(r":.*", "", text) for name, text in table.findings.dropna().items()}
    assert found == FAULTS
    errors = {name for name, kind in FAULTS.items() if kind.startswith("unusable")}
    assert set(table.index[table.state == "error"]) == errors
    assert set(table.index[table.state == "warning"]) == set(FAULTS) - errors


def test_numbers_are_those_of_another_reader(faulty: Path, table: pd.DataFrame) -> None:
    for name in ("case_0", "offset", "thick", "twin"):
        image, label = (nib.load(faulty / part / f"{name}.nii.gz") for part in ("imagesTr", "labelsTr"))
        row, voxels, values = table.loc[name], image.get_fdata(), np.asarray(label.dataobj)
        assert tuple(row.filter(like="voxels ")) == image.shape
        assert tuple(row.filter(like="mm ")) == image.header.get_zooms()
        assert row.orientation == "".join(nib.aff2axcodes(image.affine)) == "LAS"
        assert (row.minimum, row.maximum) == (voxels.min(), voxels.max())
        assert (row["1 %"], row["99 %"]) == pytest.approx(np.percentile(voxels, (1, 99)))
        ml = np.bincount(values.ravel(), minlength=5) * np.prod(image.header.get_zooms()) / 1000
        assert list(row[["liver ml", "kidney_left ml", "kidney_right ml", "spare ml"]]) == pytest.approx(
            ml[1:], abs=1e-6
        )


def test_the_page_has_each_case_its_picture_and_its_reason(faulty: Path, table: pd.DataFrame) -> None:
    text = page(faulty)
    assert pictures(text) == len(table) - 1  # the one that cannot be read
    for name in table.index:
        assert len(re.findall(rf">{name}</(?:a|h3)>", text)) >= 2
    assert "<b>no voxel in any case</b>: spare" in text
    targets = set(re.findall(r' id="(case-\d+)"', text))
    assert len(targets) == len(table)
    assert set(re.findall(r'href="#(case-\d+)"', text)) == targets


def test_each_tag_of_the_page_is_closed(faulty: Path, table: pd.DataFrame) -> None:
    text = re.sub(r"<((?:meta|img)[^>]*)>", r"<\1/>", page(faulty))
    text = text.replace("<!DOCTYPE html>", "").replace("<details open>", "<details>")
    text = text.replace("<script>", "<script><![CDATA[").replace("</script>", "]]></script>")
    assert len(ElementTree.fromstring(text).findall(".//article")) == len(table)


@pytest.mark.parametrize("layout", ["list", "nnU-Net 1", "4-D"])
def test_a_case_of_several_channels_is_one_row(tmp_path: Path, layout: str) -> None:
    two_channels(write_domain(tmp_path / "Liver"), layout)
    write_data_report(tmp_path / "Liver")
    found = pd.read_csv(tmp_path / "Liver" / "report" / "cases.csv")
    assert set(found.channels) == {2}
    assert set(found.state) == {"good"}


def test_nothing_above_the_folder_is_named(faulty: Path, table: pd.DataFrame) -> None:
    for name in ("report.html", "cases.csv"):
        text = (faulty / "report" / name).read_text(encoding="utf-8")
        assert "secret" not in text
        assert "imagesTr/broken.nii.gz is not a readable NIfTI file" in text
        assert "labelsTr/unlabelled.nii.gz does not exist" in text


def test_a_line_per_kind_sums_it_up_and_the_path_comes_last(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "Liver")
    write_case(folder, "offset", draw(20)[0] + 1024, draw(20)[1])
    (folder / "labelsTr" / "case_5.nii.gz").unlink()
    report = write_data_report(folder, tmp_path / "elsewhere")
    assert str(report).splitlines() == [
        "Liver: 9 cases, 1 with errors, 1 with warnings.",
        "  unusable label, 1 case: case_5",
        "  1024 HU off, 1 case: offset",
        "  no voxel in any case: spare",
        f"Report: {tmp_path / 'elsewhere' / 'report.html'}",
    ]
    assert report.has_errors
    assert not (folder / "report").exists()


def test_a_case_whose_name_is_a_script_is_shown_as_text(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "<b>Liver", cases=1)
    write_case(folder, "<script>alert(1)<!--", *draw(1))
    write_data_report(folder)
    text = page(folder)
    assert text.count("<script>") == text.count("</script>") == 1  # its own
    assert "<h3>&lt;script&gt;alert(1)&lt;!--</h3>" in text
    assert "<h1>Data report: &lt;b&gt;Liver</h1>" in text


def test_scans_without_labels_are_shown_too_and_a_series_by_its_uid_without_its_patient(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    series = write_series(folder / "a", draw(0)[0], affine, patient="Doe^Jane")
    broken = write_series(folder / "b", draw(1)[0], affine, patient="Roe^Richard", leave_out=[4])
    save(folder / "c.nii.gz", draw(2)[0])
    write_data_report(folder)
    rows = pd.read_csv(folder / "report" / "cases.csv", index_col="case")
    assert dict(rows.state)[series.uid] == dict(rows.state)["c"] == "good"
    assert list(rows.state).count("error") == 1
    text = page(folder)
    assert pictures(text) == 2
    assert "Classes" not in text
    for secret in ("Doe", "Jane", "Roe", "Richard", "LIDC", str(tmp_path)):
        assert secret not in text + rows.to_csv()
    assert broken.uid in rows.to_csv() or "b" in rows.index


def test_a_series_is_compared_with_a_file_of_the_same_voxels(tmp_path: Path) -> None:
    write_series(tmp_path / "a", draw(0)[0], np.diag([2.0, 2.0, 3.0, 1.0]))
    scan = open_scan(tmp_path / "a")
    turned = nib.Nifti1Image(scan.voxels().astype(np.float64), scan.affine).as_reoriented([[2, -1], [0, 1], [1, 1]])
    nib.save(turned, tmp_path / "b.nii.gz")
    assert write_data_report(tmp_path).cases[0].findings[0].text == "the image has the same voxels as that of b."


def test_what_the_folder_holds_is_still_what_it_held(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "Liver", cases=3)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write_data_report(folder)
    first = page(folder)
    write_data_report(folder)
    assert page(folder) == first
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(folder.rglob("*"))) - len(before) == 2 + 3  # two files, three folders
    assert list(list_scans(folder).scans) == [f"imagesTr/case_{number}" for number in range(3)]


def test_few_cases_say_nothing_of_what_is_usual(tmp_path: Path) -> None:
    write_good(tmp_path, cases=3)
    write_case(tmp_path, "thick", *draw(23), spacing=(3.0, 3.0, 30.0))
    assert {case.state for case in write_data_report(tmp_path).cases} == {"good"}


@pytest.mark.parametrize(("modality", "found"), [("CT", True), ("image", True), ("MRI", False), ("PET", False)])
def test_hounsfield_units_are_asked_of_ct_alone(modality: str, found: bool, tmp_path: Path) -> None:
    write_good(tmp_path)
    write_case(tmp_path, "offset", draw(20)[0] + 1024, draw(20)[1])
    content = json.loads((tmp_path / "dataset.json").read_text("utf-8"))
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "modality": {"0": modality}}))
    kinds = {each.kind for case in write_data_report(tmp_path).cases for each in case.findings}
    assert kinds == ({"1024 HU off"} if found else set())


def test_one_channel_of_several_is_shown_and_one_that_there_is_not_is_an_error(tmp_path: Path) -> None:
    write_good(tmp_path, cases=2)
    for number in range(2):
        image = np.stack([np.zeros(SHAPE, np.int16), draw(number)[0]], axis=-1)
        save(tmp_path / "imagesTr" / f"case_{number}.nii.gz", image)
    content = json.loads((tmp_path / "dataset.json").read_text("utf-8"))
    for channel, state in ((1, "good"), (0, "error"), (2, "error")):
        (tmp_path / "dataset.json").write_text(json.dumps({**content, "channel": channel}))
        cases = write_data_report(tmp_path).cases
        assert {case.state for case in cases} == {state}
        assert {case.channels for case in cases} == ({2} if channel < 2 else {1})
    assert "has 2 channels, so there is no channel 2" in page(tmp_path)


def test_a_file_without_a_voxel_size_is_told(tmp_path: Path) -> None:
    save(tmp_path / "scan.nii", draw(0)[0])
    data = bytearray((tmp_path / "scan.nii").read_bytes())
    data[80:92], data[252:256] = bytes(12), bytes(4)
    (tmp_path / "scan.nii").write_bytes(data)
    (case,) = write_data_report(tmp_path).cases
    assert (case.spacing, [each.kind for each in case.findings]) == (None, ["no voxel size"])


def test_what_is_no_data_set_is_refused_in_one_line_and_gets_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing is no folder; name one in Decathlon layout, or a folder of"):
        write_data_report(tmp_path / "nothing")
    write_good(tmp_path / "domains" / "Task09_Spleen", cases=1)
    with pytest.raises(ValueError, match="domains holds several data sets; check them one by one: Task09_Spleen"):
        write_data_report(tmp_path / "domains")
    (tmp_path / "nodules").mkdir()
    (tmp_path / "nodules" / "dataset.json").write_text('{"nodules": []}')
    with pytest.raises(ValueError, match="lists nodules to classify; check looks at segmentation data"):
        write_data_report(tmp_path / "nodules")
    (tmp_path / "nodules" / "dataset.json").write_text('{"labels": {"0": "background", "1": "a"}, "training": []}')
    with pytest.raises(ValueError, match="lists no case under 'training'"):
        write_data_report(tmp_path / "nodules")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no volume"):
        write_data_report(tmp_path / "empty")
    assert not list(tmp_path.rglob("report"))


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
@pytest.mark.skipif("MED3D_REAL_DATA" not in os.environ, reason="MED3D_REAL_DATA names no folder of real data")
def test_real_data_raise_no_false_alarm(name: str, tmp_path: Path) -> None:
    folder = Path(os.environ["MED3D_REAL_DATA"], name)
    report = write_data_report(folder, tmp_path)
    assert len(report.cases) == len(list_data(folder).items) == REAL[name]
    assert [case.name for case in report.cases if case.findings] == []
    assert max(len(case.picture) for case in report.cases) <= 15_000


def name_channels(folder: Path, **more: object) -> None:
    content = json.loads((folder / "dataset.json").read_text("utf-8"))
    content |= {"channel_names": {"0": "T1", "1": "T2"}, **more}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("layout", ["first", "nnU-Net 1"])
def test_a_case_that_lacks_a_channel_or_has_one_too_many_is_an_error(tmp_path: Path, layout: str) -> None:
    folder = write_domain(tmp_path / "Brains", cases=4)
    two_channels(folder, layout)
    name_channels(folder)
    assert {case.channels for case in write_data_report(folder).cases} == {2}
    images = folder / "imagesTr"
    (images / "case_1_0001.nii.gz").unlink()
    shutil.copy(images / "case_2_0000.nii.gz", images / "case_2_0002.nii.gz")
    report = write_data_report(folder)
    wrong = {case.name: case.findings[0].text for case in report.cases if case.state == "error"}
    one, two = sorted(wrong)
    assert "2 channels are needed, but case_1 has files for 0: give each of case_1_0000" in wrong[one]
    assert "2 channels are needed, but case_2 has files for 0, 1, 2" in wrong[two]
    assert report.has_errors
    name_channels(folder, channel=0)  # of which the others are not needed
    assert not write_data_report(folder).has_errors


def test_an_image_of_another_number_of_channels_than_is_named_is_an_error(tmp_path: Path) -> None:
    folder = write_domain(tmp_path / "Brains", cases=3)
    name_channels(folder)
    named = (folder / "dataset.json").read_text("utf-8")
    assert not write_data_report(folder).has_errors  # one channel can be trained on
    name_channels(folder, channel=1)
    assert "says to use the channel 1, but all images have one channel" in str(write_data_report(folder).cases)
    (folder / "dataset.json").write_text(named, encoding="utf-8")
    single = folder / "imagesTr" / "case_1.nii.gz"
    kept = single.read_bytes()
    two_channels(folder, "4-D")
    single.write_bytes(kept)
    wrong = [case for case in write_data_report(folder).cases if case.state == "error"]
    assert [case.name for case in wrong] == ["case_1"]
    assert wrong[0].findings[-1].text == "the image has 1, but dataset.json names 2."


def test_a_set_whose_labels_are_all_empty_is_an_error_as_it_is_in_training(tmp_path: Path) -> None:
    for number in range(2):
        image, label = draw(number)
        write_case(tmp_path, f"case_{number}", image, 0 * label)
    report = write_data_report(tmp_path)
    assert report.has_errors
    assert "empty label, 2 cases" in str(report)
    with pytest.raises(ValueError, match=r"No training label of .* has a voxel of liver"):
        SegmentationDatalist(tmp_path)
    write_case(tmp_path, "case_2", *draw(2))
    assert not write_data_report(tmp_path).has_errors
