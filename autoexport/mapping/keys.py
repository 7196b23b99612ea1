"""The key of a database without datasets or projects, and the error for keys that are not unique."""

from __future__ import annotations

from autoexport.errors import SourceError
from autoexport.model.catalog import Scalar
from autoexport.model.mapping import TableMapping

SOLE_KEY = 1
"""The key of the one dataset or project of a database that has no such table."""


def not_unique(logical: str, mapped: TableMapping, key: Scalar) -> SourceError:
    """The error for a key that two rows have."""
    return SourceError(
        f"{mapped.table.full_name}.{mapped.fields['id'].name} is not unique: {key!r} is there twice.",
        hint=f"Name a unique column as {logical}.id under [tables.{logical}] columns in autoexport.toml.",
    )
