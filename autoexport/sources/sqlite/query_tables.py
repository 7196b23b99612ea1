"""Describes the queries that stand in place of tables: SQLite tells their columns through temporary views."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy.exc import DBAPIError

from autoexport.errors import MappingError
from autoexport.mapping.mapper import configured_tables, map_catalog
from autoexport.mapping.overrides import TablesConfig
from autoexport.mapping.queries import make_query
from autoexport.model.catalog import Catalog, Column, ColumnKind, Query, Table
from autoexport.sources.readable_columns import not_declared, of_query, readable_columns
from autoexport.sources.sqlite.gate import Gate
from autoexport.sources.sqlite.schema import column_kind

_VIEW = "autoexport_query"


def with_queries(connection: Any, gate: Gate, catalog: Catalog, tables: TablesConfig) -> Catalog:
    """The catalog with the configured queries; `connection` is a synchronous SQLAlchemy connection.

    Raises `MappingError` if SQLite refuses a query, and `ConfigurationError` for a wrong setting.
    """
    queries = {
        logical: _table(connection, gate, logical, make_query(logical, override.query, catalog, "sqlite"))
        for logical, override in configured_tables(catalog, tables).items()
        if override.query is not None
    }
    return replace(catalog, queries=queries) if queries else catalog


def close_gate(gate: Gate, catalog: Catalog, tables: TablesConfig) -> None:
    """Let the connection read only what the mapping names. Without a mapping, which is an error, it reads
    nothing.
    """
    try:
        mapping = map_catalog(catalog, tables or None)
    except MappingError:
        gate.close({})
        return
    read = [mapped.table for mapped in mapping.tables().values()]
    read += [stored for table in read if table.query is not None for stored in table.query.stored]
    gate.close(readable_columns(catalog, mapping), frozenset(table.name for table in read if table.kind == "view"))


def _table(connection: Any, gate: Gate, logical: str, query: Query) -> Table:
    denied: tuple[str, str] | None = None
    try:
        connection.exec_driver_sql(f"CREATE TEMP VIEW {_VIEW} AS {query.sql}")
        try:
            rows = list(connection.exec_driver_sql(f"SELECT name, type FROM temp.pragma_table_xinfo('{_VIEW}')"))  # noqa: S608
            views = frozenset(table.name for table in query.stored if table.kind == "view")
            gate.close(of_query(query), views)
            for sql in (query.sql, *(item.sql for item in query.beside)):
                connection.exec_driver_sql(f"SELECT * FROM ({sql}) LIMIT 0")  # noqa: S608
            for beside in query.beside:
                connection.exec_driver_sql(f"SELECT image_id FROM ({beside.sql}) LIMIT 0")  # noqa: S608
        finally:
            denied = gate.refused
            gate.close(None)
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS temp.{_VIEW}")
    except DBAPIError as error:
        if denied is not None:
            raise not_declared(logical, *denied) from error
        raise refused(logical, error.orig or error) from error
    columns = tuple(Column(name, _kind(declared), declared) for name, declared in rows)
    return Table(f"tables.{logical}.query", None, "view", columns, query=query)


def refused(logical: str, error: BaseException) -> MappingError:
    """The error for a query that SQLite does not accept."""
    return MappingError(
        f"tables.{logical}.query: {error}.",
        hint="Correct the query. If it is that of a preset, preset = false leaves it.",
    )


def _kind(declared: str) -> ColumnKind:
    """The kind of a column. SQLite tells newer names of affinities for expressions, which say nothing of the
    values.
    """
    return "other" if declared in ("BLOB", "NUM") else column_kind(declared)
