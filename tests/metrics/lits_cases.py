"""Livers and lesions whose scores the program of the LiTS challenge has computed: golden/lits_challenge_scores.json."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

Case = dict[str, Any]
"""Spacing in mm, and value, centre and radii in voxels of the ellipsoids of reference and prediction."""

SIZE = (40, 36, 24)
SPACING = [0.75, 0.8, 2.5]
LIVER = (1, (20, 18, 12), (17, 14, 9))
"""The centre of most livers; its ends are off the volume's border."""
MOVED = (1, (21, 17, 12), (16, 14, 9))


def lesion(x: float, y: float, z: float, radius: float = 4) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    return 2, (x, y, z), (radius, radius, radius / 2)


def case(reference: list[Any], prediction: list[Any]) -> Case:
    return {"spacing": SPACING, "reference": reference, "prediction": prediction}


def random_case(seed: int) -> Case:
    """Draw many lesions that touch or miss one another; draws of RandomState are the same in every release of NumPy."""
    random = np.random.RandomState(seed)
    lesions = [lesion(*random.randint([6, 6, 4, 2], [34, 30, 20, 7])) for _ in range(9)]
    moved = []
    for value, centre, radii in lesions[random.randint(0, 3) :]:
        place = np.add(centre, random.randint(-2, 3, 3))
        moved.append((value, tuple(place), tuple(np.maximum(1, np.add(radii, random.choice([-1, 0, 1]))))))
    extra = [lesion(x, y, z, 3) for x, y, z in random.randint([6, 6, 4], [34, 30, 20], (random.randint(0, 4), 3))]
    return case([LIVER, *lesions], [MOVED, *moved, *extra])


CASES = {
    "one lesion": case([LIVER, lesion(15, 15, 12)], [MOVED, lesion(16, 15, 12)]),
    "itself": case([LIVER, lesion(15, 15, 12), lesion(27, 20, 10)], [LIVER, lesion(15, 15, 12), lesion(27, 20, 10)]),
    "overlap of a third": case([LIVER, lesion(15, 15, 12, 5)], [MOVED, lesion(19, 15, 12, 5)]),
    "missed lesion": case([LIVER, lesion(15, 15, 12), lesion(27, 20, 10, 3)], [MOVED, lesion(15, 16, 12)]),
    "invented lesion": case([LIVER, lesion(15, 15, 12)], [MOVED, lesion(15, 15, 12), lesion(27, 20, 10)]),
    "invented lesion that comes first": case(
        [LIVER, lesion(27, 20, 10, 5)], [MOVED, lesion(10, 18, 12, 2), lesion(28, 20, 10, 4)]
    ),
    "one prediction over two": case(
        [LIVER, lesion(13, 18, 12, 4), lesion(23, 18, 12, 4)], [MOVED, (2, (18, 18, 12), (10, 4, 2))]
    ),
    "one prediction over two and too large": case(
        [LIVER, lesion(13, 18, 12, 3), lesion(23, 18, 12, 3)], [MOVED, (2, (18, 18, 12), (12, 9, 5))]
    ),
    "two predictions in one": case(
        [LIVER, (2, (18, 18, 12), (10, 5, 3))], [MOVED, lesion(13, 18, 12, 4), lesion(23, 18, 12, 4)]
    ),
    "touching lesions": case(
        [LIVER, lesion(13, 18, 12, 4), lesion(20, 18, 12, 4), lesion(30, 18, 12, 3)],
        [MOVED, lesion(13, 19, 12, 5), lesion(29, 18, 12, 4)],
    ),
    "all lesion": case([LIVER, lesion(15, 15, 12)], [(2, (20, 18, 12), (17, 14, 9))]),
    "no prediction": case([LIVER, lesion(15, 15, 12)], []),
    "no lesion predicted": case([LIVER, lesion(15, 15, 12)], [MOVED]),
    "no lesion": case([LIVER], [MOVED]),
    "no lesion but one predicted": case([LIVER], [MOVED, lesion(15, 15, 12)]),
    "empty reference": case([], [MOVED]),
    "at the border": case(
        [(1, (0, 0, 0), (20, 20, 12)), lesion(2, 2, 1)], [(1, (0, 1, 0), (19, 20, 12)), lesion(2, 3, 1)]
    ),
    **{f"random {seed}": random_case(seed) for seed in range(24)},
}

SETS: dict[str, list[str]] = {
    **{name: [name] for name in CASES},
    "five cases": ["one lesion", "missed lesion", "one prediction over two", "random 3", "random 4"],
    "five cases, one without a prediction": ["one lesion", "no prediction", "random 1", "random 2", "touching lesions"],
    "five cases, one without a lesion": [
        "one lesion",
        "no lesion",
        "no lesion but one predicted",
        "random 5",
        "itself",
    ],
}


@cache
def labels(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the label maps of a case, prediction and reference."""
    return paint(CASES[name], "prediction"), paint(CASES[name], "reference")


def paint(spec: Case, part: str) -> np.ndarray:
    """Return the label map of a part, "reference" or "prediction", of a case."""
    label = np.zeros(SIZE, np.uint8)
    grid = np.indices(SIZE).reshape(3, -1)
    for value, centre, radii in spec[part]:
        distance = (((grid.T - centre) / radii) ** 2).sum(axis=1)
        label.ravel()[distance <= 1] = value
    return label
