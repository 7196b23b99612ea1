"""Names in statements that an operator is to execute."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS
from sqlalchemy.dialects.sqlite.base import SQLiteIdentifierPreparer

from autoexport.mapping.sql_names import quoted


def test_every_reserved_word_is_quoted() -> None:
    """Those of both databases, as SQLAlchemy lists them."""
    reserved = RESERVED_WORDS | SQLiteIdentifierPreparer.reserved_words
    assert len(reserved) > 150
    assert [word for word in reserved if quoted(word) == word] == []
