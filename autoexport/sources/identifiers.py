"""Quotes names of tables and columns in statements that an operator is to execute."""

from __future__ import annotations

import re

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS as _POSTGRES
from sqlalchemy.dialects.sqlite.base import SQLiteIdentifierPreparer

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_RESERVED = _POSTGRES | SQLiteIdentifierPreparer.reserved_words


def quoted(name: str) -> str:
    """The name as both databases read it: in quotes if it has capitals or other characters, or is reserved.

    >>> [quoted(name) for name in ("image_id", "datasetId", "order", 'a"b')]
    ['image_id', '"datasetId"', '"order"', '"a""b"']
    """
    if _PLAIN.fullmatch(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'
