"""Checks of the values that a user gives, whose errors name the value and what it must be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["NotFiniteError", "as_flag", "check_finite", "is_number", "three_positive"]


class NotFiniteError(ValueError):
    """Says that a network gives NaN or infinity.

    Args:
        what: name of the value.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is NaN or infinite: the weights or the image are damaged, or it needs --precision float32."
        )
        self.what = what


def as_flag(name: str, value: bool | str) -> bool:
    """Read a flag. Fire hands ``--resume false`` over as text, which would be true.

    Raises:
        ValueError: if ``value`` is neither true nor false.

    Example:
        >>> as_flag("resume", "False")
        False
    """
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(f"{name} is {value!r}, but must be true or false.")
    return text == "true"


def check_finite(what: str, value: Any) -> None:
    """Refuse NaN and infinity in what a network gives: compared with a number, NaN passes for background or benign.

    Args:
        what: name of the value, for the error.
        value: a number, or a tensor of at least one element.

    Raises:
        NotFiniteError: if the number, or any of the tensor's, is NaN or infinite.

    Example:
        >>> check_finite("The output for a", float("nan"))
        Traceback (most recent call last):
        med3d_components.utils.checks.NotFiniteError: The output for a is NaN or infinite: the weights ...
    """
    # Both ends in one pass, which takes a small part of the time of `isfinite`, and NaN is each of them.
    ends = value.detach().aminmax() if hasattr(value, "aminmax") else (value,)
    if not all(math.isfinite(end) for end in ends):
        raise NotFiniteError(what)


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def three_positive(
    name: str,
    values: Sequence[float] | float,
    kind: str = "numbers in mm",
    whole: bool = False,
    single: bool = False,
) -> tuple[float, ...]:
    """Check three positive numbers, one per axis.

    Args:
        name: of the setting, for the error.
        values: as given.
        kind: what they are, for the error.
        whole: whether they must be whole numbers.
        single: whether one number will do, for all axes.

    Raises:
        ValueError: if they are not.

    Example:
        >>> three_positive("spacing", 1.5, single=True)
        (1.5, 1.5, 1.5)
    """
    several: Any = (values,) * 3 if single and is_number(values) else values
    try:
        numbers = () if isinstance(several, str) else tuple(float(value) for value in several)
    except (TypeError, ValueError):
        numbers = ()
    valid = len(numbers) == 3 and all(math.isfinite(number) and number > 0 for number in numbers)
    if not valid or (whole and any(number % 1 for number in numbers)):
        wanted = f"one or three positive {kind}" if single else f"three positive {kind}, one per axis"
        raise ValueError(f"{name} is {values!r}, but must be {wanted}.")
    return numbers
