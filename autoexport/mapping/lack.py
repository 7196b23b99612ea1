"""Names the thing that a table lacks for its role, for decisions and messages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Missing(Enum):
    """A thing that a role needs. The value is the text of the message, in which `detail` is inserted."""

    KEY = "no key column (a primary key of one column, or id)"
    NAME = "no column for {detail}"
    LABEL = "no label and no geometry"
    LINK = "no column that names {detail}"


@dataclass(frozen=True, slots=True)
class Lack:
    """The thing that a table lacks for its role. `str()` gives the words that follow "has" in a message.

    `detail` names the missing fields (`NAME`), or the parent table and a column that does not fit (`LINK`).
    """

    missing: Missing
    detail: str = ""

    def __str__(self) -> str:
        return self.missing.value.format(detail=self.detail)
