from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from med3d_components.utils.checks import as_flag, three_positive


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE"])
def test_true_in_any_case_is_true(value: bool | str) -> None:
    assert as_flag("resume", value) is True
    assert as_flag("resume", str(value).lower().replace("true", "False")) is False


@pytest.mark.parametrize("value", ["yes", 1, "", None])
def test_anything_else_is_no_flag(value: str) -> None:
    with pytest.raises(ValueError, match="must be true or false"):
        as_flag("resume", value)


@pytest.mark.parametrize("values", [[1, 2, 3], (1.0, 2.0, 3.0), np.array([1, 2, 3])])
def test_three_positive_numbers_become_a_tuple(values: Any) -> None:
    assert three_positive("spacing", values) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    "values", [None, 1, "1", "111", (1, 2), (1, 2, 0), (1, 2, float("inf")), (1, 2, "x"), [[1] * 3] * 3]
)
def test_anything_else_is_not_three_positive_numbers(values: Any) -> None:
    with pytest.raises(ValueError, match=r"spacing is .*, but must be three positive numbers in mm, one per axis\."):
        three_positive("spacing", values)


def test_one_number_stands_for_all_axes_where_it_may() -> None:
    assert three_positive("size", 4, "integers", whole=True, single=True) == (4, 4, 4)
    for values in (4.5, (4, 4, 4.5), True, "4"):
        with pytest.raises(ValueError, match="must be one or three positive integers"):
            three_positive("size", values, "integers", whole=True, single=True)
