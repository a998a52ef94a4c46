"""What a load did, for people to read and for tests to check."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LoadReport", "percent", "summarise"]


@dataclass(frozen=True)
class LoadReport:
    """What was loaded, from where, and what was not.

    Attributes:
        source: as the caller named it.
        path: the file that was read.
        sha256: of that file.
        matched: entries that were copied.
        missing: entries of the network that the file lacks.
        unexpected: entries of the file that the network lacks.
        dropped: entries of heads, which an encoder has no use for.
        adapted: what was changed on the way, in words.
        share: of the network's floating-point values that were copied, 0 to 1.
        training_sets: names of the data sets that the weights were trained on, as far as the file or its card states
            them; None if their publisher keeps them to himself.
    """

    source: str
    path: Path
    sha256: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    dropped: tuple[str, ...]
    adapted: tuple[str, ...]
    share: float
    training_sets: tuple[str, ...] | None = ()

    def __str__(self) -> str:
        """Return one readable block."""
        lines = {
            "file": str(self.path),
            "sha256": self.sha256,
            "adapted": "; ".join(self.adapted) or "nothing",
            "dropped": summarise(self.dropped),
            "missing": summarise(self.missing),
            "unexpected": summarise(self.unexpected),
        }
        title = f"Loaded {self.source!r}: {percent(self.share)} of the values, {len(self.matched)} entries."
        return "\n".join([title, *(f"  {name:<11} {text}" for name, text in lines.items())])


def summarise(names: Iterable[str]) -> str:
    """Say which modules' entries these are and how many.

    Example:
        >>> summarise(["fc.weight", "fc.bias", "layer1.0.bn1.bias"])
        'fc (2 entries), layer1 (1 entry)'
    """
    counts = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{name} ({n} {'entry' if n == 1 else 'entries'})" for name, n in counts.items()) or "none"


def percent(share: float) -> str:
    """Write a share, rounded down so that only all is 100 %.

    Example:
        >>> percent(0.99999)
        '99.9 %'
    """
    return f"{math.floor(1000 * share) / 10:.1f} %"
