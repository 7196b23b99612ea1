"""Selects a sample of a PostgreSQL table by the places of its rows, without reading the table."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, literal_column

from autoexport.model.catalog import Table
from autoexport.sources.postgres.pinning import quoted

_FIRST_PLACES = 8
"""The sample has one of so many first places of a page. After an update, a place may be empty."""


def in_sample(table: Table, alias: str, rows: int) -> ColumnElement[Any]:
    """The condition that a row of a stored table lies in one of about so many places, all over it.

    TABLESAMPLE is no condition. A place is the number of a page, and one on that page (manual, "System Columns").
    A table of fewer pages gives one row a page.
    """
    name = quoted(table).replace("'", "''")
    pages = f"pg_catalog.pg_relation_size('{name}'::regclass) / current_setting('block_size')::bigint"
    steps = f"generate_series(0, {pages} - 1, greatest(1, {pages} / {rows}))"
    place = f"('(' || page || ',' || 1 + mod(page, {_FIRST_PLACES}) || ')')::tid"
    # Without a type, as it is written: no parameter has the type of a place.
    return literal_column(f"{alias}.ctid = ANY (ARRAY(SELECT {place} FROM {steps} AS page))")  # noqa: S608 - quoted
