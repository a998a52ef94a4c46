from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from med3d_components.data.domains import DOMAINS_3DSEG8
from med3d_components.prepare.decathlon import LabelledScan, write_domain

SPLEEN = DOMAINS_3DSEG8["Task09_Spleen"]
AFFINE = np.array([[-2.0, 0, 0, 11], [0, 0, 3, -7], [0, 1.5, 0, 4], [0, 0, 0, 1]])


def scan(value: int = 5) -> LabelledScan:
    label = np.zeros((4, 5, 6), np.int64)
    label[1:3, 1:3, 1:3] = 1
    return LabelledScan(np.full((4, 5, 6), value, np.int16), label, AFFINE)


def write(folder: Path, made_by: str = "test") -> bool:
    return write_domain(folder, SPLEEN, {"a": scan, "b": lambda: scan(7)}, "a test", {"made_by": made_by})


def test_a_written_folder_reads_back_with_values_and_geometry(tmp_path: Path) -> None:
    assert write(tmp_path / "Spleen")
    dataset = json.loads((tmp_path / "Spleen" / "dataset.json").read_text(encoding="utf-8"))
    assert dataset["name"] == "Spleen"
    assert dataset["labels"] == {"0": "background", "1": "spleen"}
    assert dataset["modality"] == {"0": "CT"}
    assert dataset["numTraining"] == len(dataset["training"]) == 2
    assert dataset["licence"] == SPLEEN.licence
    for entry, value in zip(dataset["training"], (5, 7), strict=True):
        image, label = (nib.load(tmp_path / "Spleen" / entry[key]) for key in ("image", "label"))
        np.testing.assert_array_equal(image.dataobj, scan(value).image)
        np.testing.assert_array_equal(label.dataobj, scan().label)
        assert image.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint8
        for volume in (image, label):
            np.testing.assert_allclose(volume.get_sform(), AFFINE, atol=1e-5)
            np.testing.assert_allclose(volume.get_qform(), AFFINE, atol=1e-5)
            assert volume.header.get_xyzt_units()[0] == "mm"


def test_monai_reads_the_written_datalist(tmp_path: Path) -> None:
    write(tmp_path / "Spleen")
    items = load_decathlon_datalist(tmp_path / "Spleen" / "dataset.json", data_list_key="training")
    assert [Path(item["image"]).name for item in items] == ["a.nii.gz", "b.nii.gz"]
    assert all(Path(item[key]).is_file() for item in items for key in ("image", "label"))


def test_nothing_but_the_complete_folder_is_left_behind(tmp_path: Path) -> None:
    write(tmp_path / "Spleen")
    assert [path.name for path in tmp_path.iterdir()] == ["Spleen"]
    files = {path.relative_to(tmp_path / "Spleen").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    parts = {f"{part}/{case}.nii.gz" for part in ("imagesTr", "labelsTr") for case in "ab"}
    assert files == {"dataset.json"} | parts


def test_equal_scans_give_byte_identical_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "one" / "Spleen")
    monkeypatch.setattr("time.time", lambda: 2e9)  # what gzip puts into its header unless told otherwise
    write(tmp_path / "two" / "Spleen")
    for path in (tmp_path / "one").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_writing_the_same_again_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "Spleen")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert not write(tmp_path / "Spleen")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_other_data_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "Spleen")
    with pytest.raises(FileExistsError, match=r"Spleen already holds other data; move it away"):
        write(tmp_path / "Spleen", made_by="something else")
    (tmp_path / "Mine").mkdir()
    (tmp_path / "Mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="Mine already holds other data"):
        write(tmp_path / "Mine")
    with pytest.raises(FileExistsError, match="already holds other data"):
        write(tmp_path / "Mine" / "thesis.txt")
    assert (tmp_path / "Mine" / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "Spleen").mkdir()
    assert write(tmp_path / "Spleen")


def test_an_interrupted_call_leaves_no_folder_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    asked: list[str] = []

    def good() -> LabelledScan:
        asked.append("good")
        return scan()

    def bad() -> LabelledScan:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_domain(tmp_path / "Spleen", SPLEEN, {"a": good, "b": bad}, "", {"made_by": "test"})
    assert not (tmp_path / "Spleen").exists()
    write_domain(tmp_path / "Spleen", SPLEEN, {"a": good, "b": scan}, "", {"made_by": "test"})
    assert asked == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == ["Spleen"]


def test_an_interrupted_call_is_not_mixed_with_other_work(tmp_path: Path) -> None:
    def bad() -> LabelledScan:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_domain(tmp_path / "Spleen", SPLEEN, {"a": lambda: scan(99), "b": bad}, "", {"made_by": "one"})
    write(tmp_path / "Spleen", made_by="another")
    image = nib.load(tmp_path / "Spleen" / "imagesTr" / "a.nii.gz")
    np.testing.assert_array_equal(image.dataobj, scan(5).image)


def test_channels_make_a_4d_file(tmp_path: Path) -> None:
    def two() -> LabelledScan:
        return LabelledScan(np.stack([scan().image, scan(8).image], axis=-1), scan().label, AFFINE)

    write_domain(tmp_path / "Prostate", DOMAINS_3DSEG8["Task05_Prostate"], {"a": two}, "", {}, licence="my own")
    dataset = json.loads((tmp_path / "Prostate" / "dataset.json").read_text(encoding="utf-8"))
    assert dataset["modality"] == {"0": "T2", "1": "ADC"}
    assert dataset["tensorImageSize"] == "4D"
    assert dataset["licence"] == "my own"
    assert nib.load(tmp_path / "Prostate" / "imagesTr" / "a.nii.gz").shape == (4, 5, 6, 2)
