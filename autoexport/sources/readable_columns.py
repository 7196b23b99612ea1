"""Lists the columns that an export may read: those that the mapping names, and no others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from autoexport.errors import MappingError
from autoexport.mapping.query_text import names_in, tokens_of
from autoexport.model.catalog import Catalog, Column, Query
from autoexport.model.mapping import Mapping

Readable = dict[str, frozenset[str]]
"""By the full name of a table, the names of the columns that may be read."""


def readable_columns(catalog: Catalog, mapping: Mapping) -> Readable:
    """The columns of all mapped tables, and those that queries and conditions name.

    The primary key of a table is among them: it may be another name of the number of the row.
    """
    found: dict[str, set[str]] = defaultdict(set)
    tables = mapping.tables()
    for mapped in tables.values():
        if mapped.table.query is not None:
            for name, columns in mapped.table.query.columns.items():
                found[name] |= set(columns)
            continue
        own: Iterable[Column | None] = (*mapped.fields.values(), *mapped.deleted, mapped.parent_link)
        found[mapped.table.full_name] |= {item.name for item in own if item is not None}
        if where := getattr(mapped, "where", ""):
            names = names_in(tokens_of(where))
            for table in catalog.tables:
                if table is mapped.table or table.name.lower() in names:
                    found[table.full_name] |= {item.name for item in table.columns if item.name.lower() in names}
    for child in tables.values():
        for parent in tables.values():
            if child.parent_column is not None and parent.table.query is None:
                found[parent.table.full_name] |= {child.parent_column.name}
    for table in catalog.tables:
        if table.full_name in found:
            found[table.full_name] |= set(table.primary_key)
    return {name: frozenset(columns) for name, columns in found.items()}


def of_query(query: Query) -> Readable:
    """The columns that one query may read."""
    keys = {table.full_name: table.primary_key for table in query.stored}
    return {name: frozenset((*columns, *keys.get(name, ()))) for name, columns in query.columns.items()}


def not_declared(logical: str, table: str, column: str) -> MappingError:
    """The error for a query that reads a column which neither its text nor `reads` names."""
    what = f"{table}.{column}" if column else table
    return MappingError(
        f"tables.{logical}.query reads {what}, which it does not name.",
        hint=f'Name each column instead of *, or list it: reads = ["{what}"].',
    )
