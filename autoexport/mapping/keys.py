"""Defines the key of the only dataset or project, and the error for duplicate keys."""

from __future__ import annotations

from autoexport.errors import SourceError
from autoexport.model.catalog import Scalar
from autoexport.model.mapping import TableMapping

SOLE_KEY = 1
"""The key of the only dataset or project in a database without such a table."""


def not_unique(logical: str, mapped: TableMapping, key: Scalar) -> SourceError:
    """The error for two rows with the same key."""
    return SourceError(
        f"{mapped.table.full_name}.{mapped.fields['id'].name} is not unique: two rows have the key {key!r}.",
        hint=f"Name a unique column as id under [tables.{logical}.columns] in autoexport.toml.",
    )
