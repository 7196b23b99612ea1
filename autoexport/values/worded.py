"""Applies the rule of numbers to columns that hold text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoexport.model.catalog import Scalar
from autoexport.values.scalars import Ruled, number, value_by_value


def numbers_in_words(column: Sequence[Scalar]) -> Ruled:
    """Apply the number rule to a text column: what is no number becomes None and counts as repaired."""
    return value_by_value(column, _number_in_words)


def _number_in_words(value: Any) -> tuple[Any, int]:
    ruled, repaired = number(value)
    return (None, 1) if isinstance(ruled, str) else (ruled, repaired)
