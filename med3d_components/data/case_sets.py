"""What the cases of a folder were for a model, told by their content rather than by their names.

A digest tells a case again in a copy, in a grown folder and under another name; the image's part of it tells a scan
again whose label was corrected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from med3d_components.data.digests import image_digests
from med3d_components.data.split_file import PARTS, Digests, Split

__all__ = ["REPLACED", "case_sets", "marks", "match_cases", "names_count", "some_names", "told_by"]

NAMED = 5
"""How many cases a line names."""
REPLACED = " (changed)"
"""Ends the set of a case whose image or label is another than in the training."""


def case_sets(
    split: Split, digests: Digests, trained_on: Sequence[str], patients: Digests | None = None
) -> dict[str, str]:
    """Return what each case of a folder was for a model, see :class:`Division`.

    A case is told by its images. A name tells something only where the folder has the name of the data set or shares a
    case with it: there is a ``case_001`` in many sets.

    Args:
        split: of the model.
        digests: of the folder's cases.
        trained_on: names of the data sets in the folder.
        patients: of cases: all of one count as trained on if one does.

    Example:
        >>> split = {"trained_on": ["a"], "training": {"1": "0a.ff"}, "validation": {"2": "0b.ff"}, "ancestors": {}}
        >>> case_sets(split, {"1": "0a.ee", "2": "0b.ff", "3": "0c.ff", "4": "0a.ff"}, ["a_v2"])
        {'1': 'training (changed)', '2': 'validation', '3': 'new', '4': 'training'}
    """
    parts = {part: split[part] for part in PARTS}
    content = {part: set(cases.values()) for part, cases in parts.items()}
    before = {**split["validation"], **split["training"]}
    told = told_by(before)
    images = {part: frozenset().union(*(told[case] for case in cases)) for part, cases in parts.items()}
    named = names_count(split["trained_on"], before, digests, trained_on)
    ancestors: set[str] = set()
    for name, cases in split["ancestors"].items():
        seen = frozenset().union(*told_by(cases).values())
        by_name = names_count([name], cases, digests, trained_on)
        short = {case: case.removeprefix(f"{name}/") for case in digests}
        ancestors |= {case for case in digests if marks(digests[case]) & seen or (by_name and short[case] in cases)}

    def find(case: str) -> str:
        digest = digests[case]
        for part in ("training", "ancestor", "validation"):
            if part == "ancestor":
                if case in ancestors:
                    return part
            elif marks(digest) & images[part]:
                return part + (REPLACED if case in parts[part] and digest not in content[part] else "")
        return next((part + REPLACED for part in PARTS if named and case in parts[part]), "new")

    sets = {case: find(case) for case in digests}
    for part in ("training", "ancestor"):
        trained = {patient for case, patient in (patients or {}).items() if sets[case].startswith(part)}
        for case, patient in (patients or {}).items():
            if patient in trained and not sets[case].startswith(("training", "ancestor")):
                sets[case] = part
    return sets


def some_names(cases: Sequence[str]) -> str:
    """Return how many cases there are, and the names of the first.

    Example:
        >>> some_names(["a"]), some_names(["a", "b", "c", "d", "e", "f"])
        ('1 case (a)', '6 cases (a, b, c, d, e, ...)')
    """
    more = ", ..." if len(cases) > NAMED else ""
    return f"{len(cases)} case{'s' * (len(cases) != 1)} ({', '.join(cases[:NAMED])}{more})"


def names_count(names: Iterable[str], before: Digests, digests: Digests, trained_on: Sequence[str]) -> bool:
    """Tell whether equal names mean the same case: in the same data set, or where one case at least is the same."""
    return bool(set(names) & set(trained_on)) or _share_a_case(before, digests)


def _share_a_case(before: Digests, digests: Digests) -> bool:
    told = frozenset().union(*told_by(before).values())
    return any(marks(digest) & told for digest in digests.values())


def marks(digest: str) -> frozenset[str]:
    """Return what a case may be told by: each of its images, and all of them."""
    return image_digests(digest) | {digest.partition(".")[0]}


def told_by(cases: Digests) -> dict[str, frozenset[str]]:
    """Return by which images each case is told from the others: those of its own, or all together if it has none.

    An image that several cases share, such as an empty channel, tells nothing; a scan with several nodules does.

    Example:
        >>> {case: sorted(told) for case, told in told_by({"1": "0a+00.ff", "2": "0b+00.ff", "3": "0c.ff"}).items()}
        {'1': ['0a'], '2': ['0b'], '3': ['0c']}
        >>> {case: sorted(told) for case, told in told_by({"1": "0a+0b", "2": "0a+0b"}).items()}
        {'1': ['0a+0b'], '2': ['0a+0b']}
    """
    count = Counter(image for digest in cases.values() for image in image_digests(digest))
    return {
        case: frozenset(image for image in image_digests(digest) if count[image] == 1)
        or frozenset([digest.partition(".")[0]])
        for case, digest in cases.items()
    }


def match_cases(before: Digests, digests: Digests, names_count: bool) -> dict[str, str]:
    """Return the cases of a split as they are called in a folder.

    By name and content first, then by content, then by the image alone, and last by a name that counts.
    """
    found: dict[str, str] = {}
    free = dict(digests)

    def take(case: str, there: str) -> None:
        found[case] = there
        del free[there]

    parts: tuple[Callable[[str], Any], ...] = (str, image_digests)
    for part in parts:
        for case, digest in before.items():
            if case not in found and case in free and part(free[case]) == part(digest):
                take(case, case)
        for case, digest in before.items():
            others = (there for there, each in free.items() if part(each) == part(digest))
            if case not in found and (there := next(others, None)) is not None:
                take(case, there)
    for case in before if names_count else ():
        if case not in found and case in free:
            take(case, case)
    return found
