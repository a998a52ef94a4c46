from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from scripts.study.results import read_results
from scripts.study.statistics import Paired, compare_inits, smallest_p
from tests.scripts.study.conftest import MakeStudy


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3], 2 / 8),  # only +++ and --- are as far from 0
        ([1, 2, -3], 1.0),
        ([5, 4, -1], 4 / 8),  # sums of 8 and 10, and of -8 and -10
        ([1, 1, 1, 1, 1, 1], 2 / 64),
        ([1, 1, 1, 1, 1, 1, -1], 16 / 128),  # the binomial test of 6 of 7
        ([0, 0, 0], 1.0),
        ([0.3], 1.0),
    ],
)
def test_the_sign_flip_test_counts_flips_that_are_as_far_from_zero(differences: list[float], p: float) -> None:
    assert Paired.of(differences).p == pytest.approx(p)
    assert Paired.of(np.negative(differences)).p == pytest.approx(p)


def test_on_right_and_wrong_the_sign_flip_test_is_mcnemars_exact_one() -> None:
    differences = [1] * 8 + [-1] * 2 + [0] * 2
    assert Paired.of(differences).p == pytest.approx(stats.binomtest(2, 10).pvalue)


def test_many_pairs_are_flipped_at_random_but_always_alike() -> None:
    differences = np.random.default_rng(1).normal(0.3, 1, 40)
    found = Paired.of(differences)
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)
    assert Paired.of(differences) == found


def test_the_interval_is_students() -> None:
    differences = np.random.default_rng(0).normal(0.1, 1, 9)
    found = Paired.of(differences)
    assert (found.low, found.high) == pytest.approx(stats.ttest_1samp(differences, 0).confidence_interval(0.95))
    assert found.mean == pytest.approx(differences.mean())
    assert not found.is_shown
    assert Paired.of([-1.0, -1.1, -0.9]).is_shown
    assert all(math.isnan(value) for value in (Paired.of([1]).low, Paired.of([]).mean, Paired.of([]).p))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_difference_that_is_no_number_is_refused_and_not_significant(wrong: float) -> None:
    with pytest.raises(ValueError, match="1 of 6 differences are NaN or infinite; leave"):
        Paired.of([wrong, 0.1, -0.1, 0.2, 0.3, -0.2])


def test_the_smallest_p_of_few_seeds_is_large() -> None:
    for pairs in (1, 2, 3, 6):
        assert Paired.of(range(1, pairs + 1)).p == smallest_p(pairs)
    assert smallest_p(0) == 1


def test_inits_are_compared_on_the_seeds_and_cases_that_both_have(make_study: MakeStudy) -> None:
    curves = {"scratch": [(0.4, 0.5), (0.4, 0.52)], "med3d": [(0.6, 0.7), (0.6, 0.73), (0.6, 0.1)]}
    comparisons = compare_inits(read_results(make_study(curves)))
    assert [(one.first, one.second, one.network, one.share) for one in comparisons] == [("med3d", "scratch", "R10", 1)]
    assert comparisons[0].seeds.differences == pytest.approx((0.2, 0.21))
    assert comparisons[0].cases.differences == pytest.approx((0.205,) * 3)  # the case without the organ is left out
    assert comparisons[0].verdict == "med3d scores higher, by the intervals alone"


@pytest.mark.parametrize(
    ("scratch", "med3d", "verdict"),
    [
        ([0.5, 0.5, 0.5], [0.9, 0.3, 0.6], "no difference shown"),
        ([0.5, 0.6, 0.7], [0.4, 0.49, 0.61], "scratch scores higher, by the intervals alone"),
        ([0.5], [0.9], "too few to tell"),
    ],
)
def test_a_difference_within_its_interval_is_none(
    make_study: MakeStudy, scratch: list[float], med3d: list[float], verdict: str
) -> None:
    out: Path = make_study({"scratch": [(x,) for x in scratch], "med3d": [(x,) for x in med3d]})
    assert compare_inits(read_results(out))[0].verdict == verdict


def test_enough_seeds_and_cases_show_a_difference(make_study: MakeStudy) -> None:
    scores = np.linspace(0.4, 0.5, 6)
    results = read_results(make_study({"scratch": [(x,) for x in scores], "med3d": [(x + 0.1,) for x in scores]}))
    many = [replace(result, cases={f"{i}": result.end + i / 100 for i in range(6)}) for result in results]
    assert compare_inits(many)[0].verdict == "med3d scores higher"
