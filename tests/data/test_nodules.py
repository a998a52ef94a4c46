from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from med3d_components.data.nodules import NoduleDatalist, list_nodules, nodule_volume
from med3d_components.data.volumes import open_scan
from tests.data.dicom_files import write_series


def write_nodules(folder: Path, nodules: list[dict[str, Any]], **content: object) -> Path:
    """Write a dataset.json, and each image and mask it names as a cube of 8 voxels of 1 x 1 x 2 mm."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in {nodule[key] for nodule in nodules for key in ("image", "mask") if isinstance(nodule.get(key), str)}:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        volume = np.zeros((8, 8, 8), np.float32)
        volume[2:5, 2:5, 2:5] = 1
        nib.save(nib.Nifti1Image(volume, np.diag([1.0, 1, 2, 1])), path)
    (folder / "dataset.json").write_text(json.dumps({"nodules": nodules, **content}))
    return folder


def scored(*scores: Any, per_patient: int = 1) -> list[dict[str, Any]]:
    return [
        {"image": f"{i}.nii", "malignancy": score, "patient": f"p{i // per_patient}"} for i, score in enumerate(scores)
    ]


def labels(datalist: NoduleDatalist) -> dict[str, int]:
    return {item["case"]: item["label"] for item in datalist.training + datalist.validation}


def test_three_is_benign_as_in_the_paper_unless_said_otherwise(tmp_path: Path) -> None:
    folder = write_nodules(tmp_path, scored(1, 2, 3, 4, 5, 5, 1, 1))
    assert list(labels(NoduleDatalist(folder, folds=2)).values()).count(1) == 3
    assert labels(NoduleDatalist(folder, folds=2))["2"] == 0
    assert labels(NoduleDatalist(folder, folds=2, at_threshold="malignant"))["2"] == 1
    assert "2" not in labels(NoduleDatalist(folder, folds=2, at_threshold="drop"))
    assert labels(NoduleDatalist(folder, folds=2, threshold=3.5))["2"] == 0
    assert labels(NoduleDatalist(folder, folds=2, threshold=2.5))["2"] == 1


@pytest.mark.parametrize(("readers", "score"), [("median", 2.0), ("mean", 2.75), ("max", 5.0)])
def test_the_scores_of_several_readers_are_merged_by_a_rule(tmp_path: Path, readers: str, score: float) -> None:
    folder = write_nodules(tmp_path, scored([2, 2, 2, 5], 5, 5, 5, 1, 1, 1))
    datalist = NoduleDatalist(folder, readers=readers, folds=2)
    item = next(item for item in datalist.training + datalist.validation if item["case"] == "0")
    assert item["malignancy"] == score
    assert item["label"] == int(score > 3)


def test_no_patient_is_on_both_sides_and_every_one_is_validated_once(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).integers(1, 6, 90).tolist()
    folder = write_nodules(tmp_path, scored(*scores, per_patient=3))
    seen: list[str] = []
    for fold in range(5):
        datalist = NoduleDatalist(folder, fold=fold)
        training, validation = (
            {item["patient"] for item in items} for items in (datalist.training, datalist.validation)
        )
        assert not training & validation
        assert len(validation) == 6
        seen += validation
        assert list(datalist.split["validation"]) == [item["case"] for item in datalist.validation]
    assert len(seen) == len(set(seen)) == 30


def test_every_fold_gets_its_share_of_both_kinds_of_patients(tmp_path: Path) -> None:
    folder = write_nodules(tmp_path, scored(*[5] * 12, *[1] * 28))
    for seed in range(3):
        for fold in range(5):
            counts = [item["label"] for item in NoduleDatalist(folder, fold=fold, seed=seed).validation]
            assert len(counts) == 8
            assert sum(counts) in (2, 3)


def test_the_split_depends_on_seed_and_patients_alone(tmp_path: Path) -> None:
    nodules = scored(*[1, 5] * 10)
    first = NoduleDatalist(write_nodules(tmp_path / "a", nodules)).split
    second = NoduleDatalist(write_nodules(tmp_path / "b", nodules[::-1])).split
    for part in ("training", "validation"):
        assert set(first[part]) == set(second[part])
    assert NoduleDatalist(tmp_path / "a", seed=1).split != first
    assert json.loads(json.dumps(first)) == first


def test_a_split_in_the_file_is_used_and_a_patient_in_both_sets_refused(tmp_path: Path) -> None:
    nodules = [{**nodule, "set": "validation" if i < 2 else "training"} for i, nodule in enumerate(scored(1, 5, 1, 5))]
    datalist = NoduleDatalist(write_nodules(tmp_path, nodules), fold=99)
    assert [list(datalist.split[part]) for part in ("training", "validation")] == [["2", "3"], ["0", "1"]]
    assert "set" not in datalist.training[0]
    nodules[3]["patient"] = "p0"
    with pytest.raises(ValueError, match="patient p0 is in both sets"):
        NoduleDatalist(write_nodules(tmp_path, nodules))
    del nodules[3]["set"]
    with pytest.raises(ValueError, match="3 of 4 nodules have 'set'; give it to all of them or to none"):
        NoduleDatalist(write_nodules(tmp_path, nodules))
    nodules[3]["set"] = "test"
    with pytest.raises(ValueError, match="'set' is 'test', but must be one of training, validation"):
        NoduleDatalist(write_nodules(tmp_path, nodules))


def test_weights_are_inverse_to_the_frequency_of_the_classes_in_training(tmp_path: Path) -> None:
    nodules = [{**nodule, "set": "training"} for nodule in scored(1, 1, 1, 5)]
    nodules += [{**nodule, "set": "validation", "patient": "v"} for nodule in scored(1, 5)]
    assert NoduleDatalist(write_nodules(tmp_path, nodules)).class_weights == pytest.approx([0.5, 1.5])


def test_items_hold_what_the_file_says_and_no_more(tmp_path: Path) -> None:
    nodules = scored(1, 5, 1, 5)
    nodules[0] |= {"mask": "masks/0.nii", "center_mm": [3, 3, 6], "spacing": [1, 1, 2], "notes": "round"}
    nodules[1] |= {"mask": None, "center_mm": None, "patient": 7}
    datalist = NoduleDatalist(write_nodules(tmp_path, nodules, name="nodules"), folds=2)
    items = {item["case"]: item for item in datalist.training + datalist.validation}
    assert items["0"] == {
        "image": str(tmp_path / "0.nii"),
        "label": 0,
        "malignancy": 1.0,
        "patient": "p0",
        "case": "0",
        "mask": str(tmp_path / "masks" / "0.nii"),
        "center_mm": [3.0, 3.0, 6.0],
        "spacing": [1.0, 1.0, 2.0],
    }
    assert items["1"].keys() == {"image", "label", "malignancy", "patient", "case"}
    assert items["1"]["patient"] == "7"
    assert (datalist.name, datalist.classes, datalist.has_masks) == ("nodules", ["benign", "malignant"], False)


def test_every_nodule_has_a_case_name_of_its_own(tmp_path: Path) -> None:
    names = ["a.nii.gz", "a.nii.gz", "a_2.nii", "x/a.nii", "b.nii"]
    nodules = [{"image": name, "malignancy": 1, "center_mm": [3, 3, 3]} for name in names]
    assert [item["case"] for item in list_nodules(write_nodules(tmp_path, nodules))] == [
        "a",
        "a_2",
        "a_2_2",
        "a_3",
        "b",
    ]


def test_without_patients_images_count_as_such_and_a_warning_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodules = [{"image": f"{i // 2}.nii", "malignancy": i % 2 * 4 + 1} for i in range(12)]
    caplog.set_level(logging.WARNING, "med3d_components")
    datalist = NoduleDatalist(write_nodules(tmp_path, nodules), folds=3)
    assert len({item["patient"] for item in datalist.training}) == 4
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "12 nodules name no patient; each image of theirs counts as one."
    ]
    caplog.clear()
    NoduleDatalist(write_nodules(tmp_path / "named", scored(1, 5, 1, 5)), folds=2)
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"malignancy": 6}, "malignancy of 0 is 6, but must be one score from 1 to 5 or a list"),
        ({"malignancy": 0}, "malignancy of 0 is 0"),
        ({"malignancy": float("nan")}, "malignancy of 0 is nan"),
        ({"malignancy": None}, "malignancy of 0 is None"),
        ({"malignancy": []}, r"malignancy of 0 is \[\]"),
        ({"malignancy": [3, "4"]}, "malignancy of 0 is "),
        ({"malignancy": True}, "malignancy of 0 is True"),
        ({"center_mm": [1, 2]}, "center_mm of 0 is .* but must be three coordinates in mm"),
        ({"center_mm": [1, 2, float("inf")]}, "center_mm of 0 is "),
        ({"spacing": [1, 0, 1]}, "spacing of 0 is .* but must be three lengths above 0 in mm"),
        (
            {"center_mm": [0, 0, 20.0]},
            r"0\.nii: center_mm \[0.0, 0.0, 20.0\] lies outside the scan, .* -1\.0 to 15\.0 mm",
        ),
        ({"image": None}, "a nodule must be a mapping with 'image'"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    nodules = scored(1, 5, 1, 5)
    nodules[0] |= changes
    with pytest.raises(ValueError, match=message):
        NoduleDatalist(write_nodules(tmp_path, nodules), folds=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"readers": "min"}, "readers is 'min', but must be one of median, mean, max"),
        ({"at_threshold": "unsure"}, "at_threshold is 'unsure', but must be one of benign, malignant, drop"),
        ({"fold": 2}, "fold is 2 of 2 folds, but must be from 0 to folds - 1"),
        ({"fold": -1}, "fold is -1 of 2 folds"),
        ({"folds": 1}, "fold is 0 of 1 folds"),
        ({"folds": "2"}, "fold is 0 of '2' folds"),
        ({"threshold": 5}, "training set has 2 benign and 0 malignant nodules, but needs both; use fewer folds"),
        ({"folds": 4}, "validation set has 0 benign and 1 malignant nodules"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    folder = write_nodules(tmp_path, scored(1, 5, 1, 5))
    with pytest.raises(ValueError, match=message):
        NoduleDatalist(folder, **{"folds": 2, **arguments})


def test_wrong_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none/dataset\.json does not exist"):
        NoduleDatalist(tmp_path / "none")
    folder = write_nodules(tmp_path, scored(1, 5, 1, 5))
    for text in ("{", "[]", "{}", '{"nodules": {}}', '{"nodules": []}', '{"nodules": ["a.nii"]}'):
        (tmp_path / "wrong").mkdir(exist_ok=True)
        (tmp_path / "wrong" / "dataset.json").write_text(text)
        with pytest.raises(ValueError, match=r"wrong/dataset\.json.* must (be|have)"):
            NoduleDatalist(tmp_path / "wrong")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), folder / "1.nii")
    with pytest.raises(ValueError, match=r"1\.nii is 4-D, of shape \(4, 4, 4, 2\)"):
        NoduleDatalist(folder)
    (folder / "1.nii").unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.nii does not exist"):
        NoduleDatalist(folder)
    write_nodules(folder, [{**nodule, "mask": "mask.nii"} for nodule in scored(1, 5)])
    (folder / "mask.nii").unlink()
    with pytest.raises(FileNotFoundError, match=r"mask\.nii, the mask of 0, does not exist"):
        NoduleDatalist(folder)


def test_the_headers_of_a_dicom_series_are_read_once_for_all_its_nodules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "ct", np.zeros((6, 5, 4)), np.diag([1.0, 1, 2, 1]))
    reads: list[Any] = []
    original = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda file, **rest: reads.append(file) or original(file, **rest))
    nodules = [{"image": "ct", "center_mm": [x, 2, 3]} for x in range(4)]
    assert [item["case"] for item in list_nodules(write_json(tmp_path, nodules))] == ["ct", "ct_2", "ct_3", "ct_4"]
    assert len(reads) == 4  # one for each slice
    with pytest.raises(ValueError, match=r"ct: center_mm .* lies outside the scan, -0\.5 to 5\.5, -0\.5 to 4\.5, "):
        list_nodules(write_json(tmp_path, [{"image": "ct", "center_mm": [-2, 2, 3]}]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty is a folder without a DICOM series"):
        list_nodules(write_json(tmp_path, [{"image": "empty"}]))


def write_json(folder: Path, nodules: list[dict[str, Any]]) -> Path:
    (folder / "dataset.json").write_text(json.dumps({"nodules": nodules}))
    return folder


def test_a_volume_that_cannot_be_read_is_an_item_with_the_reason(tmp_path: Path) -> None:
    folder = write_nodules(tmp_path, [{"image": name} for name in ("x.nii", "x.nii.gz", "y.nii")])
    (folder / "dataset.json").unlink()
    items = {item["case"]: item for item in list_nodules(folder)}
    assert items.pop("y") == {"image": str(folder / "y.nii"), "patient": "y", "case": "y"}
    assert items.keys() == {"x.nii", "x.nii.gz"}
    assert all("have one name" in item["error"] for item in items.values())


def test_inference_lists_nodules_without_scores_or_plain_volumes(tmp_path: Path) -> None:
    folder = write_nodules(tmp_path / "a", [{"image": "x.nii", "mask": "y.nii"}, {"image": "z.nii", "patient": "p"}])
    assert list_nodules(folder) == [
        {"image": str(folder / "x.nii"), "patient": "x.nii", "case": "x", "mask": str(folder / "y.nii")},
        {"image": str(folder / "z.nii"), "patient": "p", "case": "z"},
    ]
    (folder / "dataset.json").unlink()
    assert [item["case"] for item in list_nodules(folder)] == ["x", "y", "z"]
    assert list_nodules(folder / "x.nii") == [{"image": str(folder / "x.nii"), "patient": "x", "case": "x"}]
    series = write_series(tmp_path / "ct.1.2", np.zeros((6, 5, 4)), np.eye(4))
    assert list_nodules(tmp_path / "ct.1.2")[0] == {
        "image": str(tmp_path / "ct.1.2"),
        "patient": series.uid,
        "case": series.uid,
    }
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="holds no volume"):
        list_nodules(folder)


def test_the_volume_of_a_mask_is_in_mm3(tmp_path: Path) -> None:
    write_nodules(tmp_path, [{"image": "a.nii", "mask": "b.nii"}])
    item = {"mask": str(tmp_path / "b.nii")}
    assert nodule_volume(item) == pytest.approx(27 * 2)
    assert nodule_volume({**item, "spacing": [0.5, 0.5, 0.5]}) == pytest.approx(27 / 8)
    affine = np.array([[0.6, -0.8, 0, 5], [0.8, 0.6, 0, 6], [0, 0, -3, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(open_scan(item["mask"]).read(), affine), tmp_path / "c.nii.gz")
    assert nodule_volume({"mask": str(tmp_path / "c.nii.gz")}) == pytest.approx(27 * 3)
