"""Parameters of transforms that may depend on the domain of the sample.

Such a parameter is one value for all samples, or a mapping from domain name to value.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

__all__ = ["each_domain", "of_domain"]

T = TypeVar("T")
R = TypeVar("R")


def of_domain(values: Mapping[str, T] | T, data: Mapping[Hashable, Any], domain_key: str = "domain") -> T:
    """Return the value for the domain of a sample.

    What is no mapping holds for every sample. From a mapping, a sample that names no domain takes the only entry.

    Raises:
        ValueError: if the sample's domain is not in ``values``, or it names none and there are several.
    """
    if not isinstance(values, Mapping):
        return values
    if domain_key in data:
        domain = data[domain_key]
        if domain in values:
            return cast(T, values[domain])
        raise ValueError(f"There is no domain {domain!r}; known are {', '.join(values)}.")
    if len(values) == 1:
        return cast(T, next(iter(values.values())))
    raise ValueError(f"The sample has no {domain_key!r} entry, and there are several domains: {', '.join(values)}.")


def each_domain(values: Mapping[str, T] | T, function: Callable[[T], R]) -> dict[str, R] | R:
    """Apply a function to the one value, or to that of each domain."""
    if isinstance(values, Mapping):
        return {name: function(value) for name, value in values.items()}
    return function(values)
