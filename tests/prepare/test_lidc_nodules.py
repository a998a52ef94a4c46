from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from med3d_components.data.dicom import DicomSeries
from med3d_components.prepare.lidc_nodules import join_outlines
from med3d_components.prepare.lidc_outlines import Outline
from tests.prepare.lidc_files import AFFINE, SHAPE, sphere

SERIES = cast(DicomSeries, SimpleNamespace(shape=SHAPE, affine=AFFINE))
Seen = tuple[int, int, NDArray[np.bool_]]  # reader, malignancy, voxels


def box(x: slice, y: slice = slice(20, 30), z: slice = slice(10, 14)) -> NDArray[np.bool_]:
    voxels = np.zeros(SHAPE, bool)
    voxels[x, y, z] = True
    return voxels


def dice(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    return float(2 * (one & two).sum() / (one.sum() + two.sum()))


def join(seen: Sequence[Seen]) -> list[list[tuple[int, int]]]:
    """Return the reader and malignancy of each outline in a nodule, in an order of their own."""
    outlines = [Outline(SERIES, reader, str(n), score, np.flatnonzero(x)) for n, (reader, score, x) in enumerate(seen)]
    nodules = join_outlines(outlines)
    assert sorted(x.name for nodule in nodules for x in nodule) == sorted(x.name for x in outlines)
    return sorted(sorted((x.reader, x.malignancy) for x in nodule) for nodule in nodules)


def test_nothing_is_no_nodule() -> None:
    assert join([]) == []


def test_outlines_that_overlap_are_one_nodule_even_where_their_centres_lie_apart() -> None:
    long, end = box(slice(0, 40)), box(slice(0, 9))
    assert dice(long, end) > 0.3
    assert 0.7 * (20 - 4.5) > 7.7  # their centres in mm, and the radius of a sphere as large as the longer
    assert join([(0, 2, long), (1, 5, end)]) == [[(0, 2), (1, 5)]]


def test_outlines_that_overlap_less_and_lie_apart_are_two_nodules() -> None:
    long, end = box(slice(0, 40)), box(slice(0, 6))
    assert dice(long, end) < 0.3
    assert join([(0, 2, long), (1, 5, end)]) == [[(0, 2)], [(1, 5)]]


def test_outlines_without_overlap_are_one_nodule_where_their_centres_are_near() -> None:
    ring = sphere(radius=8) & ~sphere(radius=6)
    assert join([(0, 2, ring), (1, 3, sphere(radius=3))]) == [[(0, 2), (1, 3)]]


def test_an_outline_that_its_reader_repeated_is_in_the_nodule_of_the_first() -> None:
    again = sphere((31, 26, 12))
    assert dice(sphere(), again) > 0.3
    assert join([(0, 3, sphere()), (0, 2, again)]) == [[(0, 2), (0, 3)]]
    assert join([(0, 3, sphere()), (0, 2, again), (1, 5, sphere())]) == [[(0, 2), (0, 3), (1, 5)]]


def test_the_pieces_of_one_reader_join_the_nodule_that_the_others_drew_as_one() -> None:
    whole, left, right = box(slice(10, 30)), box(slice(10, 19)), box(slice(20, 30))
    pieces = [(0, 2, left), (0, 4, right)]
    assert join([*pieces, (1, 3, whole), (2, 3, whole)]) == [[(0, 2), (0, 4), (1, 3), (2, 3)]]
    assert join([*pieces, (1, 3, whole)]) == [[(0, 2), (0, 4), (1, 3)]]


def test_two_nodules_of_most_readers_stay_two_and_keep_their_own_pieces() -> None:
    # LIDC-IDRI-0404: one reader drew as one nodule what three drew as two
    whole, left, right = box(slice(10, 30)), box(slice(10, 19)), box(slice(20, 30))
    two = [(reader, score, x) for reader in (1, 2, 3) for score, x in ((1, left), (5, right))]
    assert join([(0, 3, whole), *two]) == [[(0, 3), (1, 5), (2, 5), (3, 5)], [(1, 1), (2, 1), (3, 1)]]


def test_of_several_that_fit_the_most_alike_are_joined() -> None:
    small, large = sphere(radius=3), sphere((36, 26, 12), 5)
    assert join([(0, 1, small), (0, 5, large), (1, 2, sphere((31, 26, 12), 3))]) == [[(0, 1), (1, 2)], [(0, 5)]]


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_the_order_of_the_outlines_does_not_matter(order: Sequence[int]) -> None:
    whole, left, right = box(slice(10, 30)), box(slice(10, 19)), box(slice(20, 30))
    seen = [(0, 3, whole), (1, 1, left), (1, 5, right), (2, 4, sphere((50, 40, 20), 3))]
    assert join([seen[number] for number in order]) == [[(0, 3), (1, 1), (1, 5)], [(2, 4)]]
