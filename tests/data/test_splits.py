from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path

import pytest

from med3d_components.data import NoduleDatalist, SegmentationDatalist
from med3d_components.data.splits import draw_patients, take_share
from tests.conftest import MakeDomain
from tests.data.test_datalists import edit
from tests.data.test_nodules import scored, write_nodules

SHARES = (0.001, 0.1, 0.25, 0.5, 1)


def test_a_share_is_part_of_every_larger_one_and_the_validation_stays(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=12)
    splits = [SegmentationDatalist(folder, val_fraction=0.2, train_share=share).split for share in SHARES]
    assert [len(split["training"]) for split in splits] == [1, 1, 2, 5, 10]
    for smaller, larger in pairwise(splits):
        assert set(smaller["training"]) <= set(larger["training"])
        assert smaller["validation"] == larger["validation"]
    assert splits[-1] == SegmentationDatalist(folder, val_fraction=0.2).split


def test_a_share_depends_on_seed_and_names_alone(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=10)
    first = SegmentationDatalist(folder, train_share=0.4).split
    training = [{kind: f"./{kind}sTr/case_{i}.nii.gz" for kind in ("image", "label")} for i in reversed(range(10))]
    edit(folder, training=training)
    assert SegmentationDatalist(folder, train_share=0.4).split == first
    assert SegmentationDatalist(folder, train_share=0.4, seed=1).split["training"] != first["training"]


def test_spacing_is_that_of_the_share_and_all_cases_can_be_shared(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "a", cases=5)
    datalist = SegmentationDatalist(folder, val_fraction=1, train_share=0.4)
    assert (len(datalist.training), len(datalist.validation)) == (2, 5)
    assert datalist.spacing == [1.0, 1.0, 1.0]


def test_a_share_of_nodules_is_of_patients_and_keeps_both_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    folder = write_nodules(tmp_path, scored(*[1, 1, 5, 5] * 10, per_patient=2))
    datalists = [NoduleDatalist(folder, train_share=share) for share in SHARES]
    used = [{item["patient"] for item in datalist.training} for datalist in datalists]
    assert [len(patients) for patients in used] == [2, 2, 4, 8, 16]
    for (smaller, larger), datalist in zip(pairwise(used), datalists[:-1], strict=True):
        assert smaller <= larger
        assert datalist.validation == datalists[-1].validation
        assert {item["label"] for item in datalist.training} == {0, 1}
        assert len(datalist.training) == 2 * len(smaller)
    assert datalists[-1].split == NoduleDatalist(folder).split
    assert datalists[0].class_weights == [1, 1]


def test_a_patient_with_nodules_of_both_classes_is_enough_for_both() -> None:
    items = [{"patient": f"p{i // 2}", "label": i % 2} for i in range(40)]
    assert len(draw_patients(items, 0.1, seed=0)) == 2
    assert draw_patients(items, 0.1, seed=0) == draw_patients(items[::-1], 0.1, seed=0)
    assert draw_patients(items, 0.1, seed=0) != draw_patients(items, 0.1, seed=1)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), "0.5", True, None])
def test_anything_else_is_no_share(share: float) -> None:
    with pytest.raises(ValueError, match=r"train_share is .*, but must be a number above 0 and at most 1"):
        take_share(["a"], share)
