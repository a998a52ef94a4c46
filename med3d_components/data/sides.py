"""Which side of the patient the name of a class tells."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["has_sides", "pair_sides", "split_side"]

SIDES = {
    **dict.fromkeys(("left", "l", "lt", "lft", "lh"), "left"),
    **dict.fromkeys(("right", "r", "rt", "rgt", "rght", "rh"), "right"),
}
"""Words of sides; lh and rh are FreeSurfer's hemispheres."""
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
"""A word of small or of capital letters; of "LKidney" the last capital begins the next one."""
GLUED = re.compile(r"^(left|right)(?=[a-z]{3})(?!over|ful)|(?<=[a-z]{3})(left|right)$")
"""A side at either end of a word, as in "leftkidney", but not in "cleft" or "upright"."""


def split_side(name: str) -> tuple[str, str] | None:
    """Return the side that a name tells, and the rest of the name; None if it tells none, or both.

    Example:
        >>> split_side("kidney_left"), split_side("Right Lung"), split_side("LtKidney"), split_side("liver")
        (('left', 'kidney'), ('right', 'lung'), ('left', 'kidney'), None)
    """
    words = _words(name)
    sides = [SIDES[word] for word in words if word in SIDES]
    if len(sides) != 1 or len(words) == 1:
        return None
    return sides[0], " ".join(word for word in words if word not in SIDES)


def pair_sides(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of names that differ in their side alone, the left one first.

    Example:
        >>> pair_sides(["background", "lung_right", "lung_left", "left atrium"])
        [('lung_left', 'lung_right')]
    """
    found: dict[str, dict[str, str]] = {}
    for name in names:
        if split := split_side(name):
            found.setdefault(split[1], {})[split[0]] = name
    return [(pair["left"], pair["right"]) for pair in found.values() if len(pair) == 2]


def has_sides(names: Iterable[str]) -> bool:
    """Tell whether any of the names tells one side of the patient, so that a mirrored volume contradicts it.

    Of a pair one class is enough: where only the left kidney is labelled, the right one is background, and a mirrored
    volume teaches the opposite. A name alone does not tell whether there is a partner, so "left atrium" counts too.

    Example:
        >>> has_sides(["background", "kidney_left"]), has_sides(["background", "left and right lung", "spleen"])
        (True, False)
    """
    return any(len({SIDES[word] for word in _words(name) if word in SIDES}) == 1 for name in names)


def _words(name: str) -> list[str]:
    words = (GLUED.sub(r" \g<0> ", word.lower()) for word in WORD.findall(name))
    return " ".join(words).split()
