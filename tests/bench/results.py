"""Holds the results of a scenario as tables of plain values, and the arithmetic over rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

Value = str | int | float | None


class BenchError(Exception):
    """A measurement that could not be made; the message says why."""


@dataclass(slots=True)
class Table:
    """Rows of one scenario. Columns carry their units in their names: `_s`, `_ms`, `_mb`, `_gb`, `ratio`."""

    name: str
    title: str
    rows: list[dict[str, Value]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def columns(self) -> list[str]:
        """All columns, in the order in which the rows name them."""
        return list(dict.fromkeys(column for row in self.rows for column in row))


def middle(values: Sequence[float]) -> float | None:
    """The median; None if there are no values."""
    return median(values) if values else None


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The median of the rounds' ratios: a disturbance of the machine in one round affects both sides."""
    pairs = [one / other for one, other in zip(ours, theirs, strict=False) if other]
    return middle(pairs)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed.

    None if there are no values.
    """
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]
