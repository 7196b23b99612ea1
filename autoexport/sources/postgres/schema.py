"""Reads the declarations of a PostgreSQL database from its catalogs (manual, chapter "System Catalogs")."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from autoexport.model.catalog import Catalog, Column, ColumnKind, ForeignKey, Table, TableKind

# S608: the statements below are put together from constants of this module.
# Partitions are read through their parents. A table is not visible if an earlier schema of the search path hides
# its name, or if the role has no USAGE right on its schema.
_RELATIONS = """
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS relkind
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND (pg_catalog.pg_table_is_visible(c.oid) OR n.nspname = ANY ($1::text[]))
"""
_COLUMNS = f"""
WITH RECURSIVE relations AS ({_RELATIONS}), bases AS (
  SELECT t.oid AS domain, t.typbasetype AS base FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
  UNION ALL
  SELECT b.domain, t.typbasetype FROM bases b JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype = 'd'
)
SELECT r.schema, r.name, r.relkind, pg_catalog.has_table_privilege(r.oid, 'SELECT'),
  pg_catalog.has_column_privilege(r.oid, a.attnum, 'SELECT'), a.attname::text, a.attnotnull,
  t.typname::text, t.typtype::text,
  t.typcategory::text, t.typnamespace = 'pg_catalog'::regnamespace,
  pg_catalog.format_type(a.atttypid, a.atttypmod), l.collname::text
FROM relations r
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN bases b ON b.domain = a.atttypid
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_type d WHERE d.oid = b.base AND d.typtype = 'd')
LEFT JOIN pg_catalog.pg_type t ON t.oid = coalesce(b.base, a.atttypid)
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation AND l.collname <> 'default'
  AND t.typname <> 'name'
ORDER BY r.schema, r.name, a.attnum
"""  # noqa: S608
_INDEXES = f"""
WITH relations AS ({_RELATIONS})
SELECT r.schema, r.name, i.indisprimary,
  array_agg(a.attname::text ORDER BY k.ordinal) FILTER (WHERE k.ordinal <= i.indnkeyatts)
FROM relations r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, ordinal)
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.attnum AND k.attnum > 0
WHERE i.indpred IS NULL AND i.indisvalid
GROUP BY r.schema, r.name, i.indexrelid, i.indisprimary ORDER BY r.schema, r.name, i.indexrelid
"""  # noqa: S608
_FOREIGN_KEYS = f"""
WITH relations AS ({_RELATIONS})
SELECT r.schema, r.name, n.nspname::text, p.relname::text,
  array_agg(a.attname::text ORDER BY k.ordinal), array_agg(b.attname::text ORDER BY k.ordinal)
FROM relations r
JOIN pg_catalog.pg_constraint o ON o.conrelid = r.oid AND o.contype = 'f' AND o.conparentid = 0
JOIN pg_catalog.pg_class p ON p.oid = o.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
CROSS JOIN LATERAL unnest(o.conkey, o.confkey) WITH ORDINALITY AS k(own, other, ordinal)
JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.own
JOIN pg_catalog.pg_attribute b ON b.attrelid = p.oid AND b.attnum = k.other
GROUP BY r.schema, r.name, o.oid, n.nspname, p.relname ORDER BY r.schema, r.name, o.oid
"""  # noqa: S608

_TABLE_KINDS: dict[str, TableKind] = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "view",
    "f": "foreign table",
}
_KINDS: dict[str, ColumnKind] = {
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "oid": "integer",
    "float4": "real",
    "float8": "real",
    "numeric": "numeric",
    "bool": "boolean",
    "date": "time",
    "timestamp": "time",
    "timestamptz": "time",
    "json": "json",
    "jsonb": "json",
    "uuid": "uuid",
    "bytea": "binary",
}
_LOCKABLE = "rpv"
"""`relkind` of the relations that `LOCK TABLE` accepts."""

CatalogRows = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Declarations:
    """The catalog, and the full names of the tables that `LOCK TABLE` accepts.

    `hidden` has the columns that the role may not read, by the full name of a table of which it may read others.
    """

    catalog: Catalog
    lockable: frozenset[str]
    hidden: dict[str, list[str]]


def configured_schemas(tables: Mapping[str, Any]) -> list[str]:
    """The schemas that the `[tables]` part of the configuration names."""
    configured = [table.get("schema") for table in tables.values() if isinstance(table, dict)]
    return sorted({name for name in configured if isinstance(name, str)})


async def read_catalog(connection: AsyncConnection, schemas: Sequence[str]) -> Declarations:
    """All tables and views of the search path and of these schemas, readable or not.

    If the role may read some columns of a table, the others are left out. Raises the driver's errors.
    """

    async def rows(statement: str) -> CatalogRows:
        return (await connection.exec_driver_sql(statement, (list(schemas),))).all()

    columns, relkinds, hidden = _columns(await rows(_COLUMNS))
    primary, indexes = _indexes(await rows(_INDEXES))
    foreign = _foreign_keys(await rows(_FOREIGN_KEYS))
    tables = tuple(
        Table(
            name=name,
            schema=schema,
            kind=_TABLE_KINDS[relkinds[schema, name]],
            columns=tuple(own_columns),
            primary_key=primary.get((schema, name), ()),
            foreign_keys=tuple(foreign[schema, name]),
            indexes=tuple(sorted(indexes[schema, name])),
        )
        for (schema, name), own_columns in columns.items()
    )
    lockable = {name for name, relkind in relkinds.items() if relkind in _LOCKABLE} - set(hidden)
    return Declarations(
        Catalog(tables),
        frozenset(".".join(name) for name in lockable),
        {".".join(name): names for name, names in hidden.items()},
    )


def column_kind(type_name: str, type_kind: str, category: str, built_in: bool) -> ColumnKind:
    """The kind of a type, by its name, `typtype` and `typcategory` (manual, "pg_type")."""
    if type_kind == "e":
        return "enum"
    if category == "A":
        return "array"
    if built_in and type_name in _KINDS:
        return _KINDS[type_name]
    return "text" if category == "S" or (built_in and type_name == "char") else "other"


_Name = tuple[str, str]


def _columns(rows: CatalogRows) -> tuple[dict[_Name, list[Column]], dict[_Name, str], dict[_Name, list[str]]]:
    """The columns, the `relkind` and the hidden columns of each relation.

    A relation of which no column may be read keeps its columns, so that reading it is an error.
    """
    columns: dict[_Name, list[Column]] = defaultdict(list)
    relkinds: dict[_Name, str] = {}
    hidden: dict[_Name, list[str]] = defaultdict(list)
    partly = {(row[0], row[1]) for row in rows if row[4] and not row[3]}
    for schema, name, relkind, _, readable, column, required, *declared in rows:
        relkinds[schema, name] = relkind
        own_columns = columns[schema, name]
        if (schema, name) in partly:
            own_hidden = hidden[schema, name]
            if not readable:
                own_hidden.append(column)
                continue
        if column is not None:
            own_columns.append(_column(column, not required, declared))
    return columns, relkinds, dict(hidden)


def _column(name: str, nullable: bool, declared: Sequence[Any]) -> Column:
    typname, typtype, category, built_in, type_name, collation = declared
    if collation:
        type_name = f'{type_name} COLLATE "{collation}"'
    return Column(name, column_kind(typname, typtype, category, built_in), type_name, nullable)


def _indexes(rows: CatalogRows) -> tuple[dict[_Name, tuple[str, ...]], dict[_Name, set[tuple[str, ...]]]]:
    primary: dict[_Name, tuple[str, ...]] = {}
    indexes: dict[_Name, set[tuple[str, ...]]] = defaultdict(set)
    for schema, name, is_primary, indexed in rows:
        # An index helps up to its first expression, which has no column name.
        columns = tuple(indexed[: indexed.index(None)] if None in indexed else indexed)
        if columns:
            indexes[schema, name].add(columns)
        if is_primary:
            primary[schema, name] = columns
    return primary, indexes


def _foreign_keys(rows: CatalogRows) -> dict[_Name, list[ForeignKey]]:
    foreign: dict[_Name, list[ForeignKey]] = defaultdict(list)
    for schema, name, referred_schema, referred_table, columns, referred in rows:
        key = ForeignKey(tuple(columns), referred_schema, referred_table, tuple(referred))
        foreign[schema, name].append(key)
    return foreign
