"""Describes the queries that stand in place of tables: the server tells the types of their columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from autoexport.errors import MappingError
from autoexport.mapping.mapper import configured_tables
from autoexport.mapping.overrides import TableOverride, TablesConfig
from autoexport.mapping.queries import QueryOverride, functions, make_query
from autoexport.mapping.query_text import called_in, tokens_of
from autoexport.model.catalog import Column, Query, Table
from autoexport.sources.postgres import catalog_queries as queries
from autoexport.sources.postgres.engine import driver_of
from autoexport.sources.postgres.errors import sqlstate
from autoexport.sources.postgres.gate import refuse_own_functions, refuse_undeclared
from autoexport.sources.postgres.schema import Declarations, columns_of, parts_of

# In the order of the columns of `catalog_queries.COLUMNS`.
_TYPES = """
WITH RECURSIVE bases AS (
  SELECT o AS declared, o AS base FROM unnest($1::oid[]) AS o
  UNION ALL
  SELECT b.declared, t.typbasetype FROM bases b JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype = 'd'
)
SELECT b.declared::bigint, t.oid::bigint, t.typname::text, t.typtype::text, t.typcategory::text,
  t.typnamespace = 'pg_catalog'::regnamespace, pg_catalog.format_type(b.declared, -1), NULL::text
FROM bases b JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype <> 'd'
"""
_FUNCTIONS = """
SELECT DISTINCT lower(p.proname::text), p.prokind::text, p.provolatile::text, n.nspname = 'pg_catalog'
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE lower(p.proname::text) = ANY ($1::text[]) AND (n.nspname = 'pg_catalog' OR
pg_catalog.pg_function_is_visible(p.oid))
ORDER BY 1, 2, 3, 4
"""
_BY_SESSION = frozenset(
    {
        "now", "transaction_timestamp", "statement_timestamp", "current_setting", "current_query", "age",
        "current_database", "current_schemas", "inet_client_addr", "inet_server_addr", "to_regclass", "to_regtype",
        "txid_current_snapshot", "txid_snapshot_xmin",
    }
)  # fmt: skip
"""Stable functions whose result depends on the time or the session. All functions called pg_… count as such."""


class KnownQueries:
    """The configured queries of a database. They are described again if its declarations or functions changed."""

    def __init__(self, tables: TablesConfig) -> None:
        self._tables = tables
        self._declared: Declarations | None = None
        self._functions: Sequence[Any] = ()
        self._described: Declarations | None = None

    async def describe(self, connection: AsyncConnection, declared: Declarations) -> Declarations:
        """The declarations with the configured queries.

        Raises `MappingError` if the server refuses a query, `ConfigurationError` for a wrong setting, and the
        driver's errors.
        """
        overrides = configured_tables(declared.catalog, self._tables)
        texts = [text for item in overrides.values() if item.query is not None for text in _texts(item.query)]
        if not texts:
            return declared
        called = sorted(frozenset().union(*(called_in(tokens_of(text)) for text in texts)))
        functions: Sequence[Any] = (await connection.exec_driver_sql(_FUNCTIONS, (called,))).all()
        presets = [text for name, item in overrides.items() if item.query and not self._is_own(name)
                   for text in _texts(item.query)]  # fmt: skip
        if presets:
            await refuse_own_functions(connection, presets)
        if self._described is None or declared is not self._declared or functions != self._functions:
            self._described = await _described(connection, declared, overrides, functions)
            self._declared, self._functions = declared, functions
        return self._described

    def _is_own(self, logical: str) -> bool:
        """Whether the configuration file itself has the query, and not a preset."""
        settings = self._tables.get(logical)
        return isinstance(settings, Mapping) and "query" in settings


def _texts(query: QueryOverride) -> tuple[str, ...]:
    return (query.texts.get("postgresql", ""), *query.beside.get("postgresql", ()))


async def _described(
    connection: AsyncConnection,
    declared: Declarations,
    overrides: Mapping[str, TableOverride],
    functions_: Sequence[Any],
) -> Declarations:
    aggregates = {name for name, kind, _, _ in functions_ if kind in ("a", "w")}
    changing = {
        name for name, _, volatile, _ in functions_ if volatile == "v" or name in _BY_SESSION or name[:3] == "pg_"
    }
    described: dict[str, Table] = {}
    for logical, override in overrides.items():
        if override.query is None:
            continue
        query = make_query(logical, override.query, declared.catalog, "postgresql", aggregates)
        if used := sorted(functions(query) & changing):
            query = replace(query, changing=f"{used[0]}()")
        described[logical] = await _table(connection, logical, query)
    return replace(declared, catalog=replace(declared.catalog, queries=described))


async def _table(connection: AsyncConnection, logical: str, query: Query) -> Table:
    name = f"tables.{logical}.query"
    columns = await _columns(connection, logical, f"SELECT * FROM ({query.sql}) AS query")  # noqa: S608
    beside = [
        replace(item, key=(await _columns(connection, logical, f"SELECT image_id FROM ({item.sql}) AS query"))[0])  # noqa: S608
        for item in query.beside
    ]
    names = Counter(item.name for item in columns)
    if twice := [column for column, count in names.items() if count > 1]:
        raise MappingError(f"{name} has two columns {twice[0]}.", hint="Give each column another name with AS.")
    try:
        async with connection.begin_nested():
            await refuse_undeclared(connection, logical, query)
    except DBAPIError as error:
        if sqlstate(error)[:2] != "42":
            raise
        raise _refused(logical, error.orig or error) from error
    return Table(name, None, "view", columns, query=replace(query, beside=tuple(beside)))


async def _columns(connection: AsyncConnection, logical: str, statement: str) -> tuple[Column, ...]:
    """The columns of a statement, which is planned but not executed."""
    driver: Any = await driver_of(connection)
    try:
        # In a savepoint: a refused statement would end the transaction.
        async with connection.begin_nested():
            attributes = (await driver.prepare(statement, name="")).get_attributes()
    except Exception as error:
        if sqlstate(error)[:2] not in ("42", "0A"):
            raise
        raise _refused(logical, error) from error
    oids = [item.type.oid for item in attributes]
    rows: Sequence[Any] = (await connection.exec_driver_sql(_TYPES, (oids,))).all()
    types = {row[0]: row[1:] for row in rows}
    wholes = sorted({oid for oid, _, kind, category, *_ in types.values() if kind == "c" or category == "A"})
    parts: Sequence[Any] = ()
    if wholes:
        parts = (await connection.exec_driver_sql(queries.PARTS, (wholes,))).all()
    declared = [("", "", "v", item.name, False, *types[item.type.oid]) for item in attributes]
    return tuple(columns_of(declared, parts_of(parts))[0]["", ""])


def _refused(logical: str, error: BaseException) -> MappingError:
    """The error for a query that the server does not accept."""
    return MappingError(
        f"tables.{logical}.query: {error}.",
        hint="Correct the query. If it is that of a preset, preset = false leaves it.",
    )
