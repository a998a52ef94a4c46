"""Paired comparisons of initialisations, over seeds and over validation cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from scripts.study.results import Result

__all__ = ["Comparison", "Paired", "compare_inits", "smallest_p"]

DRAWS = 9999


@dataclass(frozen=True)
class Paired:
    """Differences of pairs, and whether they could as well have the other sign.

    Attributes:
        differences: (N,).
        mean: of the differences.
        low: end of the 95 % interval of the mean by Student's t; NaN for fewer than two pairs.
        high: its other end.
        p: two-sided, of the sign-flip test (Fisher's randomisation test of pairs) on the mean: exact up to 13 pairs,
            from 9999 random flips beyond.

    Example:
        >>> paired = Paired.of([1.0, 2.0, 3.0])
        >>> paired.mean, paired.p
        (2.0, 0.25)
    """

    differences: tuple[float, ...]
    mean: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, differences: ArrayLike) -> Paired:
        """Compute all of it; NaN without a pair.

        Raises:
            ValueError: if a difference is not finite: a test of it would take NaN for a certain difference.
        """
        found = np.asarray(differences, dtype=float)
        if wrong := found.size - int(np.isfinite(found).sum()):
            raise ValueError(f"{wrong} of {found.size} differences are NaN or infinite; leave these pairs out.")
        count, mean = found.size, float(found.mean()) if found.size else math.nan
        half = float(stats.t.ppf(0.975, count - 1) * stats.sem(found)) if count > 1 else math.nan
        return cls(tuple(found.tolist()), mean, mean - half, mean + half, _sign_flip(found))

    @property
    def is_shown(self) -> bool:
        """Tell whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """Two initialisations of one network on one share of the data: the score of ``first`` minus that of ``second``.

    Attributes:
        network: label.
        share: of the training cases.
        first: label of an initialisation.
        second: label of another one.
        seeds: of the score at the end.
        cases: of each case's score at the end, first averaged over the seeds that both have.
    """

    network: str
    share: float
    first: str
    second: str
    seeds: Paired
    cases: Paired

    @property
    def verdict(self) -> str:
        """Return what may be said: a difference must be larger than its interval over seeds and over cases."""
        if math.isnan(self.seeds.low) or math.isnan(self.cases.low):
            return "too few to tell"
        same_sign = self.seeds.mean * self.cases.mean > 0
        if not (self.seeds.is_shown and self.cases.is_shown and same_sign):
            return "no difference shown"
        tested = max(self.seeds.p, self.cases.p) < 0.05
        higher = self.first if self.seeds.mean > 0 else self.second
        return f"{higher} scores higher{'' if tested else ', by the intervals alone'}"


def compare_inits(results: Sequence[Result]) -> list[Comparison]:
    """Compare every initialisation with every one before it, on the same network, share, seeds and cases."""
    groups: dict[tuple[str, float], dict[str, dict[int, Result]]] = {}
    for result in results:
        network, share, init = result.group
        groups.setdefault((network, share), {}).setdefault(init, {})[result.facts["seed"]] = result
    return [
        _compare(network, share, (second, first), group)
        for (network, share), group in groups.items()
        for first, second in combinations(group, 2)
    ]


def smallest_p(pairs: int) -> float:
    """Return the smallest p that an exact two-sided sign-flip test of so many pairs can give.

    Example:
        >>> smallest_p(3)
        0.25
    """
    return min(1.0, 2.0 ** (1 - pairs))


def _compare(
    network: str, share: float, inits: tuple[str, str], group: Mapping[str, Mapping[int, Result]]
) -> Comparison:
    first, second = (group[init] for init in inits)
    pairs = [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]
    seeds = Paired.of([one.end - other.end for one, other in pairs])
    cases = pd.DataFrame([pd.Series(one.cases) - pd.Series(other.cases) for one, other in pairs])
    return Comparison(network, share, *inits, seeds, Paired.of(cases.mean(skipna=False).dropna()))


def _sign_flip(differences: np.ndarray) -> float:
    if differences.size < 2:  # which scipy refuses
        return 1.0 if differences.size else math.nan

    def mean_difference(first: Any, second: Any, axis: int) -> Any:
        return np.mean(first - second, axis=axis)

    pairs = (differences, np.zeros_like(differences))
    random = {"n_resamples": DRAWS, "random_state": np.random.default_rng(0)}
    test = stats.permutation_test(pairs, mean_difference, permutation_type="samples", vectorized=True, **random)
    return float(test.pvalue)
