"""Names what a table lacks for its role, for decisions, messages and hints."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Missing(Enum):
    """What a table has not; the value is the words of the message, with a place for the detail."""

    KEY = "no key column (a primary key of one column, or id)"
    NAME = "no column for {detail}"
    LABEL = "no label and no geometry"
    LINK = "no column that names {detail}"


@dataclass(frozen=True, slots=True)
class Lack:
    """What a table lacks for its role. `str()` gives words that follow "has".

    `detail` is the missing fields (`NAME`), or the parent table and why no column fits (`LINK`).
    """

    missing: Missing
    detail: str = ""

    def __str__(self) -> str:
        return self.missing.value.format(detail=self.detail)
