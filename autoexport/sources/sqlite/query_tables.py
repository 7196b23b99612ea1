"""Describes the queries that stand in place of tables: SQLite tells their columns through temporary views."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy.exc import DBAPIError

from autoexport.errors import MappingError
from autoexport.mapping.mapper import configured_tables
from autoexport.mapping.overrides import TablesConfig
from autoexport.mapping.queries import make_query
from autoexport.model.catalog import Catalog, Column, ColumnKind, Query, Table
from autoexport.sources.sqlite.schema import column_kind

_VIEW = "autoexport_query"


def with_queries(connection: Any, catalog: Catalog, tables: TablesConfig) -> Catalog:
    """The catalog with the configured queries; `connection` is a synchronous SQLAlchemy connection.

    Raises `MappingError` if SQLite refuses a query, and `ConfigurationError` for a wrong setting.
    """
    queries = {
        logical: _table(connection, logical, make_query(logical, override.query, catalog, "sqlite"))
        for logical, override in configured_tables(catalog, tables).items()
        if override.query is not None
    }
    return replace(catalog, queries=queries) if queries else catalog


def _table(connection: Any, logical: str, query: Query) -> Table:
    try:
        connection.exec_driver_sql(f"CREATE TEMP VIEW {_VIEW} AS {query.sql}")
        try:
            rows = list(connection.exec_driver_sql(f"SELECT name, type FROM temp.pragma_table_xinfo('{_VIEW}')"))  # noqa: S608
            connection.exec_driver_sql(f"SELECT * FROM temp.{_VIEW} LIMIT 0")  # noqa: S608
            for beside in query.beside:
                connection.exec_driver_sql(f"SELECT image_id FROM ({beside.sql}) LIMIT 0")  # noqa: S608
        finally:
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS temp.{_VIEW}")
    except DBAPIError as error:
        raise refused(logical, error.orig or error) from error
    columns = tuple(Column(name, _kind(declared), declared) for name, declared in rows)
    return Table(f"tables.{logical}.query", None, "view", columns, query=query)


def refused(logical: str, error: BaseException) -> MappingError:
    """The error for a query that SQLite does not accept."""
    return MappingError(
        f"tables.{logical}.query: {error}.", hint="Correct the query, or try it with `sqlite3 file.db`."
    )


def _kind(declared: str) -> ColumnKind:
    """The kind of a column. SQLite tells newer names of affinities for expressions, which say nothing of the
    values.
    """
    return "other" if declared in ("BLOB", "NUM") else column_kind(declared)
