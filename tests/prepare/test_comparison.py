from __future__ import annotations

import numpy as np
import pytest

from med3d_components.data.sides import pair_sides, split_side
from med3d_components.prepare.comparison import compare_cases, find_outliers, is_ct, unused_classes
from med3d_components.prepare.inspection import CaseFacts, Intensities


def with_volumes(*volumes: float) -> list[CaseFacts]:
    return [CaseFacts(f"case_{number}", volumes_ml={"organ": volume}) for number, volume in enumerate(volumes)]


def kinds(cases: list[CaseFacts]) -> list[str]:
    return [" ".join(each.kind for each in case.findings) for case in cases]


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_what_is_odd_depends_on_no_unit(scale: float) -> None:
    values = scale * np.array([10, 11, 9, 10, 12, 1, 40, 10])
    assert find_outliers(values.tolist(), 3).tolist() == [False] * 5 + [True, True, False]


def test_lesions_may_differ_more_than_organs() -> None:
    organs, lesions = np.random.default_rng(0).lognormal(3, (0.2, 1.5), (200, 2)).T
    for values, share in ((organs, 0), (lesions, 0.005)):
        assert find_outliers(values.tolist(), 3).mean() <= share
        middle = float(np.median(values))
        assert find_outliers([*values, middle / 1e4], 3)[-1]
    assert find_outliers([*organs, float(np.median(organs)) / 4], 3)[-1]
    assert not find_outliers([*lesions, float(np.median(lesions)) / 4], 3)[-1]


def test_half_of_the_cases_do_not_outvote_the_other_half() -> None:
    assert not find_outliers([1, 1, 1, 1, 8, 8, 8, 8], 3).any()


def test_a_class_is_missing_where_nine_of_ten_cases_have_it() -> None:
    for lacking, kind in ((1, "missing organ"), (2, "")):
        cases = [
            CaseFacts(f"case_{number}", volumes_ml={"organ": 10.0 * (number >= lacking), "other": 1.0})
            for number in range(10)
        ]
        compare_cases(cases)
        assert kinds(cases) == [kind] * lacking + [""] * (10 - lacking)


def test_a_class_that_no_case_has_is_unused_and_one_that_cannot_be_read_says_nothing() -> None:
    cases = [*with_volumes(1, 0), CaseFacts("broken")]
    assert unused_classes(("background", "organ", "spare"), cases) == ["spare"]


@pytest.mark.parametrize(
    ("modality", "lowest", "expected"),
    [
        ("CT", 0, True),
        ("ct, portal venous", 0, True),
        ("MRI", -1000, False),
        ("LGE-MRI", -1000, False),
        ("FDG-PET/CT", -1000, False),
        ("image", -1000, True),
        ("image", 0, False),
        ("", -1000, True),
    ],
)
def test_data_are_ct_by_what_they_say_or_else_by_their_air(modality: str, lowest: float, expected: bool) -> None:
    cases = [CaseFacts("a", intensities=Intensities(lowest, 0, 1, 2)), CaseFacts("broken")]
    assert is_ct(modality, cases) == expected


def test_the_modality_of_a_series_counts_before_its_values() -> None:
    assert is_ct("", [CaseFacts("a", modality="CT", intensities=Intensities(0, 0, 1, 2))])
    assert not is_ct("", [CaseFacts("a", modality="MR", intensities=Intensities(-1000, 0, 1, 2))])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left kidney", "right kidney"),
        ("kidney_left", "kidney_right"),
        ("Kidney (L)", "Kidney (R)"),
        ("KidneyLeft", "KidneyRight"),
        ("LtKidney", "RtKidney"),
        ("Left-Hippocampus", "Right-Hippocampus"),
        ("lung_upper_lobe_left", "lung_upper_lobe_right"),
        ("rib_left_1", "rib_right_1"),
        ("LKidney", "RKidney"),
        ("leftkidney", "rightkidney"),
        ("lh_hippocampus", "rh_hippocampus"),
    ],
)
def test_sides_are_told_by_the_names_that_data_sets_have(left: str, right: str) -> None:
    names = ["background", right, "spleen", left, "left atrium of the right side", "lung_middle_lobe_right"]
    assert pair_sides(names) == [(left, right)]


@pytest.mark.parametrize("name", ["liver", "left", "bilateral lungs", "upright", "cleft", "left to right shunt"])
def test_other_names_tell_no_side(name: str) -> None:
    assert split_side(name) is None


@pytest.mark.parametrize(("left", "right", "kind"), [(-50, 50, ""), (50, -50, "left and right exchanged"), (1, 0, "")])
def test_the_left_one_must_not_lie_to_the_right_of_the_right_one(left: float, right: float, kind: str) -> None:
    case = CaseFacts("a", spacing=(1.0, 1.0, 2.0), places_mm={"left lung": left, "right lung": right})
    compare_cases([case, CaseFacts("one alone", places_mm={"left lung": 50.0})])
    assert kinds([case]) == [kind]
