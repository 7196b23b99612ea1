"""Reads the declarations of a PostgreSQL database from its catalogs (manual, chapter "System Catalogs")."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from autoexport.mapping.synonyms import is_named
from autoexport.model.catalog import Catalog, Column, ColumnKind, ForeignKey, Table, TableKind, UnseenTables
from autoexport.sources.postgres import catalog_queries as queries

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
    "point": "geometric",
    "lseg": "geometric",
    "path": "geometric",
    "polygon": "geometric",
    "box": "box",
    "line": "opaque",
    "circle": "opaque",
}
_SPATIAL = frozenset({"geometry", "geography", "raster", "box2d", "box3d", "topogeometry"})
"""The types of PostGIS, which may live in any schema. Their text is hexadecimal."""

_POINTS = frozenset({"lseg", "path", "polygon"})
"""Lists of points: inside of a composite they are text that is not JSON."""

_TYPE_KINDS: dict[str, ColumnKind] = {"e": "enum", "c": "composite", "r": "range", "m": "range"}
"""By `typtype`."""

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

    async def rows(statement: str, parameter: Sequence[Any] = schemas) -> CatalogRows:
        return (await connection.exec_driver_sql(statement, (list(parameter),))).all()

    declared = await rows(queries.COLUMNS)
    wholes = {row[5] for row in declared if row[3] is not None and (row[7] == "c" or row[8] == "A")}
    parts = parts_of(await rows(queries.PARTS, sorted(wholes))) if wholes else {}
    columns, relkinds = columns_of(declared, parts)
    primary, indexes = _indexes(await rows(queries.INDEXES))
    foreign = _foreign_keys(await rows(queries.FOREIGN_KEYS))
    access = {(schema, name): rest for schema, name, *rest in await rows(queries.ACCESS)}
    hidden = {(schema, name): columns or [] for schema, name, columns in await rows(queries.HIDDEN)}
    tables = tuple(
        Table(
            name=name,
            schema=schema,
            kind=_TABLE_KINDS[relkinds[schema, name]],
            columns=tuple(column for column in own_columns if column.name not in hidden.get((schema, name), ())),
            primary_key=primary.get((schema, name), ()),
            foreign_keys=tuple(foreign[schema, name]),
            indexes=tuple(sorted(indexes[schema, name])),
            readable=bool(access[schema, name][0]),
            ancestors=frozenset(access[schema, name][1] or ()),
        )
        for (schema, name), own_columns in columns.items()
    )
    unseen: CatalogRows = ()
    if not any(is_named(table.name, "images") for table in tables):
        unseen = await rows(queries.UNSEEN)
    role, search_path = unseen[0][3:] if unseen else ("", "")
    catalog = Catalog(
        tables,
        tuple(UnseenTables(schema, tuple(names), usable) for schema, names, usable, *_ in unseen),
        role,
        search_path,
    )
    lockable = {name for name, relkind in relkinds.items() if relkind in _LOCKABLE} - set(hidden)
    return Declarations(
        catalog,
        frozenset(".".join(name) for name in lockable),
        {".".join(name): names for name, names in hidden.items()},
    )


def column_kind(type_name: str, type_kind: str, category: str, built_in: bool) -> ColumnKind:
    """The kind of a type, by its name, `typtype` and `typcategory` (manual, "pg_type").

    A name alone does not identify a type: `built_in` says that it is one of the server's own.
    """
    if built_in and type_name in _KINDS:
        return _KINDS[type_name]
    if type_name in _SPATIAL and not built_in:
        return "opaque"
    if type_kind in _TYPE_KINDS:
        return _TYPE_KINDS[type_kind]
    if category == "A":
        return "array"
    return "text" if category == "S" or (built_in and type_name == "char") else "other"


_Name = tuple[str, str]
_Part = tuple[str, ColumnKind]


def parts_of(rows: CatalogRows) -> dict[int, set[_Part]]:
    """The types that arrays and composites consist of, by the oid of the whole."""
    parts: dict[int, set[_Part]] = defaultdict(set)
    for whole, *identity in rows:
        kind = column_kind(*identity)
        parts[whole].add(("record" if kind == "composite" else _base(*identity), kind))
    return parts


def _base(type_name: str, _type_kind: str, _category: str, built_in: bool) -> str:
    return type_name if built_in else f"other.{type_name}"


def _readable_kind(kind: ColumnKind, parts: set[_Part]) -> ColumnKind:
    """The kind of an array or composite; `opaque` if a part of it has no JSON form."""
    kinds = {part for _, part in parts}
    names = {name for name, _ in parts}
    points_in_record = names & _POINTS and len(names) > 1
    return "opaque" if kinds & {"opaque", "range"} or points_in_record else kind


def columns_of(
    rows: CatalogRows, parts: Mapping[int, set[_Part]]
) -> tuple[dict[_Name, list[Column]], dict[_Name, str]]:
    """The columns and the kind of each relation, from rows of `catalog_queries.COLUMNS`."""
    columns: dict[_Name, list[Column]] = defaultdict(list)
    relkinds: dict[_Name, str] = {}
    for schema, name, relkind, column, required, oid, *identity, declared, collation in rows:
        relkinds[schema, name] = relkind
        own_columns = columns[schema, name]
        if column is not None:
            type_name = f'{declared} COLLATE "{collation}"' if collation else declared
            kind = column_kind(*identity)
            base: tuple[str, ...] = (_base(*identity),)
            if kind in ("array", "composite"):
                kind = _readable_kind(kind, parts[oid])
                base = tuple(sorted({part for part, _ in parts[oid]}))
            own_columns.append(Column(column, kind, type_name, not required, base))
    return columns, relkinds


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
