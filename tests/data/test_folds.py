from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from med3d_components.data import ModelSplit, SegmentationDatalist
from tests.conftest import MakeDomain
from tests.data.test_datalists import edit


def parts(folder: Path, **options: Any) -> tuple[set[str], set[str]]:
    """Return the cases that train and those that validate."""
    split = SegmentationDatalist(folder, **options).split
    return set(split["training"]), set(split["validation"])


def write_splits(path: Path, *folds: Any) -> Path:
    path.write_text(json.dumps(list(folds)), encoding="utf-8")
    return path


def fold(train: list[str], val: list[str]) -> dict[str, list[str]]:
    return {"train": train, "val": val}


def test_every_case_validates_in_one_of_the_folds_and_trains_in_the_others(
    tmp_path: Path, make_domain: MakeDomain
) -> None:
    folder = make_domain(tmp_path / "a", cases=7)
    found = [parts(folder, folds=3, fold=number) for number in range(3)]
    names = {f"case_{number}" for number in range(7)}
    assert sorted(case for _, validation in found for case in validation) == sorted(names)
    assert all(training == names - validation for training, validation in found)
    assert sorted(len(validation) for _, validation in found) == [2, 2, 3]


def test_a_fold_depends_on_seed_and_names_alone(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=9)
    first = parts(folder, folds=3, fold=1)
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    edit(folder, training=content["training"][::-1])
    assert parts(folder, folds=3, fold=1) == first
    assert parts(folder, folds=3, fold=1, seed=1) != first


def test_a_share_of_a_folds_training_cases_leaves_its_validation_cases_as_they_are(
    tmp_path: Path, make_domain: MakeDomain
) -> None:
    folder = make_domain(tmp_path / "a", cases=8)
    training, validation = parts(folder, folds=4, fold=2)
    fewer, same = parts(folder, folds=4, fold=2, train_share=0.5)
    assert (len(fewer), fewer < training, same) == (3, True, validation)


def test_a_splits_final_json_is_followed_and_what_it_leaves_out_is_told(
    tmp_path: Path, make_domain: MakeDomain, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_domain(tmp_path / "a", cases=5)
    path = write_splits(
        tmp_path / "splits_final.json",
        fold(["case_0", "case_1"], ["case_2"]),
        fold(["case_2", "case_4"], ["case_0", "case_3"]),
    )
    with caplog.at_level(logging.WARNING):
        assert parts(folder, split_file=path, fold=1) == ({"case_2", "case_4"}, {"case_0", "case_3"})
    assert f"{path}, fold 1: in neither list, and left out: 1 case (case_1)." in caplog.messages
    assert parts(folder, split_file=path) == ({"case_0", "case_1"}, {"case_2"})


def test_a_case_of_nnunet_is_found_by_its_label_though_its_image_ends_in_0000(
    tmp_path: Path, make_domain: MakeDomain
) -> None:
    folder = make_domain(tmp_path / "a", cases=3)
    for number in range(3):
        image = folder / "imagesTr" / f"case_{number}.nii.gz"
        image.rename(image.with_name(f"case_{number}_0000.nii.gz"))
    edit(
        folder,
        training=[
            {"image": f"imagesTr/case_{number}_0000.nii.gz", "label": f"labelsTr/case_{number}.nii.gz"}
            for number in range(3)
        ],
    )
    path = write_splits(tmp_path / "splits_final.json", fold(["case_0", "case_2"], ["case_1"]))
    assert parts(folder, split_file=path) == ({"case_0_0000", "case_2_0000"}, {"case_1_0000"})


REFUSED: dict[str, tuple[list[Any], dict[str, int], str]] = {
    "a case that there is not": (
        [fold(["case_0", "case_9"], ["case_1"])],
        {},
        r"names 1 case \(case_9\) that the data",
    ),
    "a case in both": ([fold(["case_0", "case_1"], ["case_1"])], {}, r"trains and validates on 1 case \(case_1\)"),
    "no case to validate": ([fold(["case_0"], [])], {}, "has no case to validate on"),
    "no case to train": ([fold([], ["case_0"])], {}, "has no case to train on"),
    "no such fold": ([fold(["case_0"], ["case_1"])], {"fold": 1}, r"fold is 1, but .*json has 1, counted from 0"),
    "folds as well": ([fold(["case_0"], ["case_1"])], {"folds": 2}, "folds is 2 and split_file is .* leave the other"),
    "no list of folds": ([["case_0"]], {}, "must be a list of folds"),
    "no fold at all": ([], {}, "must be a list of folds"),
    "names that are none": ([{"train": [1], "val": ["case_0"]}], {}, "must be a list of folds"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_split_file_that_cannot_be_followed_is_refused_in_one_line(
    tmp_path: Path, make_domain: MakeDomain, why: str
) -> None:
    content, options, message = REFUSED[why]
    folder, path = make_domain(tmp_path / "a", cases=3), write_splits(tmp_path / "splits_final.json", *content)
    with pytest.raises(ValueError, match=message) as error:
        SegmentationDatalist(folder, split_file=path, **options)
    assert "\n" not in str(error.value)


def test_a_split_file_that_is_none_is_refused(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=3)
    with pytest.raises(FileNotFoundError, match=r"split_file is .*none\.json, which is no file"):
        SegmentationDatalist(folder, split_file=tmp_path / "none.json")
    (tmp_path / "none.json").write_text("[")
    with pytest.raises(ValueError, match="must be a list of folds"):
        SegmentationDatalist(folder, split_file=tmp_path / "none.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 4}, "folds is 4, but there are 3 cases; give at most 3"),
        ({"folds": 3, "fold": 3}, "fold is 3 of 3 folds, but must be from 0 to folds - 1"),
        ({"fold": 1}, "fold is 1, but there are no folds; say how many by --folds, or give --split_file"),
    ],
)
def test_a_fold_that_there_is_not_is_refused(
    tmp_path: Path, make_domain: MakeDomain, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationDatalist(make_domain(tmp_path / "a", cases=3), **options)


def test_an_evaluation_asks_for_no_folds(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=4)
    split = SegmentationDatalist(folder, folds=2, fold=1).split
    (tmp_path / "split.json").write_text(json.dumps(split), encoding="utf-8")
    again = SegmentationDatalist(folder, fold=3, model_split=ModelSplit(tmp_path, cases="validation"))
    assert {item["case"] for item in again.validation} == set(split["validation"])
