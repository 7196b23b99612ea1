"""Counts the rows of the tables that queries read: all of them, and those of recent transactions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, column, func, literal_column, select, table

from autoexport.model.catalog import Column, Table
from autoexport.model.mapping import Mapping
from autoexport.sources.contract import Snapshot
from autoexport.sources.query_changes import queries_of


def read_by_queries(mapping: Mapping) -> dict[Table, dict[str, Column]]:
    """The tables that queries read, with the columns of each."""
    read: dict[Table, dict[str, Column]] = {}
    for query in queries_of(mapping).values():
        for stored in query.stored:
            names = query.columns.get(stored.full_name)
            used = [item for item in stored.columns if names is None or item.name in names]
            read.setdefault(stored, {}).update({item.name: item for item in used})
    return read


async def row_counts(snapshot: Snapshot, mapping: Mapping) -> dict[str, int]:
    """The number of rows of each table that a query reads, by full name. Raises `SourceError`."""
    return {name: count for name, (count, _) in (await _counted(snapshot, mapping, None)).items()}


async def moved_tables(snapshot: Snapshot, mapping: Mapping, xmin: int, counts: dict[str, int]) -> set[str]:
    """The tables with rows that are new or different, or with fewer rows.

    Without recent rows, a table has only rows that it had before. If there are as many, none is gone.
    """
    counted = await _counted(snapshot, mapping, xmin)
    return {name for name, (count, new) in counted.items() if new or count != counts.get(name)}


async def _counted(snapshot: Snapshot, mapping: Mapping, xmin: int | None) -> dict[str, tuple[int, int]]:
    """By full name, the number of rows of the tables that queries read, and of those that are recent."""
    counted: dict[str, tuple[int, int]] = {}
    for stored in read_by_queries(mapping):
        rows = table(stored.name, column("xmin"), schema=stored.schema).alias("r")
        number: ColumnElement[Any] = literal_column("0")
        if xmin is not None:
            number = func.count().filter(recent(rows, xmin))
        statement: Select[Any] = select(func.count(), number).select_from(rows)
        async for part in snapshot.stream(statement):
            counted[stored.full_name] = int(part[0][0]), int(part[0][1])  # type: ignore[arg-type]
    return counted


def recent(rows: FromClause, xmin: int) -> ColumnElement[bool]:
    """That a row's xmin is not older than this one; false for an xmin so old that its age is negative.

    `age` counts from one id, which stays the same during the transaction. The snapshot sees no higher id.
    """
    age: ColumnElement[int] = func.age(rows.c.xmin)
    return and_(age >= 0, age <= func.age(literal_column(f"'{xmin % 2**32}'::xid")))


def recent_text(xmin: int) -> str:
    """The condition of `_recent` on the rows of a table without an alias, as text."""
    age = "pg_catalog.age(xmin)"
    return f"{age} >= 0 AND {age} <= pg_catalog.age('{xmin % 2**32}'::xid)"
