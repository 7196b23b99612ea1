"""Counts the values that the rules repaired or redacted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Mended:
    """How many values the rules repaired, and how many URLs lost a part that may be secret."""

    repaired: int = 0
    redacted: int = 0

    def __add__(self, other: Mended) -> Mended:
        return Mended(self.repaired + other.repaired, self.redacted + other.redacted)
