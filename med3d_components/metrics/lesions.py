"""The lesions of masks, and which predicted ones answer which reference ones, as the LiTS challenge decides it.

Lesions touch, so that one prediction may span several of the reference and the other way round. The rules of
:func:`match_lesions` are those of the challenge's own program (PatrickChrist/lits-challenge-scoring, 090307d), also
where it departs from its description, because only then do scores compare with published ones. Those of
:class:`LesionDetection`, which match one to one, are for all else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

__all__ = ["Lesions", "Match", "count_common", "find_lesions", "match_lesions"]


class Lesions(NamedTuple):
    """The lesions of a mask.

    Attributes:
        numbers: (H, W, D), the number of the lesion that a voxel belongs to, from 1 in the order of the array; 0
            outside.
        sizes: voxels of each number, that of 0 included.
    """

    numbers: NDArray[np.int32]
    sizes: NDArray[np.int64]

    @property
    def total(self) -> int:
        """Number of lesions."""
        return len(self.sizes) - 1


class Match(NamedTuple):
    """Lesions of a prediction and a reference that stand for each other have one number.

    Attributes:
        predicted: new number of each predicted lesion, 0 for one that detects nothing; index 0 is the background.
        reference: new number of each reference lesion.
        detected: number of detections as the challenge counts them.
    """

    predicted: NDArray[np.int64]
    reference: NDArray[np.int64]
    detected: int


def find_lesions(mask: NDArray[np.bool_], connectivity: int = 1) -> Lesions:
    """Number the lesions of a mask (H, W, D).

    Args:
        mask: of all lesions.
        connectivity: what voxels of one lesion share: 1 for faces, 2 for edges, too, and 3 for corners, too, so that a
            voxel has 6, 18 or 26 neighbours.

    Example:
        >>> find_lesions(np.array([[[True, False, True, True]]])).sizes.tolist()
        [1, 1, 2]
    """
    numbers, count = ndimage.label(mask, ndimage.generate_binary_structure(3, connectivity))
    # The background is most of a volume, and bincount would copy it.
    sizes = np.bincount(numbers[mask], minlength=count + 1)
    sizes[0] = mask.size - sizes.sum()
    return Lesions(numbers, sizes)


def count_common(predicted: Lesions, reference: Lesions) -> sparse.coo_array:
    """Return how many voxels predicted (row) and reference lesions (column) share; row and column 0 are empty.

    Args:
        predicted: lesions of the prediction.
        reference: lesions of the reference, of the same shape.

    Example:
        >>> truth, guess = (find_lesions(np.array([[x]]) > 0) for x in ([1, 1, 0, 0, 1], [0, 1, 1, 0, 0]))
        >>> count_common(guess, truth).toarray().tolist()
        [[0, 0, 0], [0, 1, 0]]
    """
    shape = predicted.total + 1, reference.total + 1
    both = (predicted.numbers > 0) & (reference.numbers > 0)
    pairs = np.ravel_multi_index((predicted.numbers[both], reference.numbers[both]), shape)
    known, counts = np.unique(pairs, return_counts=True)
    return sparse.coo_array((counts, np.unravel_index(known, shape)), shape=shape)


def match_lesions(predicted: Lesions, reference: Lesions, least_overlap: float) -> Match:
    """Match predicted lesions with those of the reference.

    Reference lesions whose largest overlap is with the same prediction become one. Each prediction then answers the
    one that it overlaps most. It is detected if intersection over union is above ``least_overlap``.

    The challenge's program has two slips, which are kept. It looks the predictions that answer a reference lesion up
    under the number of the first of them, though they have been given that of the reference lesion; so the union is
    too small, or that with other predictions, where the two numbers differ. And it counts joined reference lesions once
    where they are detected, but takes off each of them where they are not.

    Args:
        predicted: lesions of the prediction.
        reference: lesions of the reference, of the same shape.
        least_overlap: from 0, where any overlap will do, to below 1.

    Example:
        >>> truth, guess = (find_lesions(np.array([[x]]) > 0) for x in ([1, 1, 0, 0, 1], [0, 1, 1, 0, 0]))
        >>> [match_lesions(guess, truth, share).detected for share in (0, 0.5)]
        [1, 0]
    """
    common = count_common(predicted, reference).toarray()
    joined, members = _join_references(common)
    merged = np.zeros_like(common)
    np.add.at(merged.T, joined, common.T)
    answers = merged.argmax(axis=1)
    intersection = np.bincount(answers, merged[np.arange(len(answers)), answers], minlength=reference.total + 1)
    reference_sizes = np.bincount(joined, reference.sizes, minlength=reference.total + 1)
    found = [number for number in dict.fromkeys(answers.tolist()) if number]
    detected = len(found)
    for number in found:
        first = int(np.flatnonzero(answers == number)[0])
        looked_up = answers == first
        union = reference_sizes[number] + predicted.sizes[looked_up].sum() - merged[looked_up, number].sum()
        if intersection[number] / union <= least_overlap:
            answers[answers == number] = 0
            detected -= int(members[number])
    return Match(answers, joined, detected)


def _join_references(common: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number that each reference lesion gets, and how many get each.

    Args:
        common: voxels that predicted lesion (row) and reference lesion (column) share, both from 1.
    """
    joined = np.arange(common.shape[1])
    owner = common.argmax(axis=0)
    for prediction in np.unique(owner[common.any(axis=0)]):
        members = np.flatnonzero(owner == prediction)
        joined[members] = members[0]
    return joined, np.bincount(joined, minlength=len(joined))
