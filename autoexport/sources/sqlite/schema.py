"""Reads the declarations of a SQLite database: tables, columns, keys, indexes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import xxhash

from autoexport.model.catalog import Catalog, Column, ColumnKind, ForeignKey, Table, UnseenTables

# Virtual tables, which have no root page, are left out. To list their columns, SQLite would load their modules,
# and a missing module would fail the statement. Nor could changes be found without pages of their own.
_TABLES = """
SELECT name, type FROM sqlite_master
WHERE (type = 'view' OR type = 'table' AND rootpage > 0) AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name
"""
_VIRTUAL = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage = 0 ORDER BY name"
_COLUMNS = """
SELECT m.name, x.name, x.type, x."notnull", x.pk, x.hidden
FROM sqlite_master m, pragma_table_xinfo(m.name) x WHERE m.type = 'table' AND m.rootpage > 0 AND x.hidden <> 1
ORDER BY m.name, x.cid
"""
_VIEW_COLUMNS = 'SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid'
_FOREIGN_KEYS = """
SELECT m.name, f.id, f."table", f."from", f."to"
FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table' AND m.rootpage > 0
ORDER BY m.name, f.id, f.seq
"""
_INDEXES = """
SELECT m.name, l.name, i.name
FROM sqlite_master m, pragma_index_list(m.name) l, pragma_index_info(l.name) i
WHERE m.type = 'table' AND m.rootpage > 0 AND l.partial = 0 ORDER BY m.name, l.name, i.seqno
"""

_COMPUTED = 2
"""`hidden` of a column that is computed whenever it is read (sqlite.org/pragma.html#pragma_table_xinfo)."""

# The words with which applications and their libraries declare columns. They come before SQLite's own rules of
# affinity (https://www.sqlite.org/datatype3.html, section 3.1), which distinguish only five classes.
_WORDS: tuple[tuple[str, ColumnKind], ...] = (
    ("BOOL", "boolean"),
    ("JSON", "json"),
    ("TIMESTAMP", "time"),
    ("DATE", "time"),
    ("UUID", "uuid"),
    ("INT", "integer"),
    ("CHAR", "text"),
    ("CLOB", "text"),
    ("TEXT", "text"),
    ("BLOB", "binary"),
    ("REAL", "real"),
    ("FLOA", "real"),
    ("DOUB", "real"),
    ("NUMERIC", "numeric"),
    ("DEC", "numeric"),
)


def column_kind(declared: str) -> ColumnKind:
    """The kind of values that a declared type is meant for; `other` if no known word is in it."""
    upper = declared.upper()
    return next((kind for word, kind in _WORDS if word in upper), "other")


@dataclass(frozen=True, slots=True)
class Declarations:
    """The catalog, and the columns that it lacks because only the application can compute them."""

    catalog: Catalog
    computed_by_application: tuple[str, ...]


def read_catalog(connection: Any) -> Declarations:
    """Read the tables and views of a database; `connection` is a synchronous SQLAlchemy connection."""

    def rows(statement: str, *parameters: Any) -> list[Any]:
        return list(connection.exec_driver_sql(statement, parameters))

    columns: dict[str, list[Any]] = defaultdict(list)
    computed_elsewhere = []
    for table, name, *declared, hidden in rows(_COLUMNS):
        if hidden == _COMPUTED and not _is_computable(connection, table, name):
            computed_elsewhere.append(f"{table}.{name}")
        else:
            columns[table].append([name, *declared])
    foreign: dict[str, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for table, key, *referred in rows(_FOREIGN_KEYS):
        foreign[table][key].append(referred)
    indexes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for table, index, column in rows(_INDEXES):
        if column is not None:
            indexes[table][index].append(column)
    declared_tables = rows(_TABLES)
    for name, kind in declared_tables:
        if kind == "view":
            # One at a time: a view whose table is gone would fail a statement about all views.
            columns[name] = _view_columns(connection, name)
    # Any primary key may be null except one that is the rowid (sqlite.org/lang_createtable.html, section 3.5).
    primary = {
        name: tuple(row[0] for row in sorted(columns[name], key=lambda row: row[3]) if row[3]) for name in columns
    }
    virtual = () if declared_tables else tuple(name for (name,) in rows(_VIRTUAL))
    catalog = Catalog(
        tuple(
            Table(
                name=name,
                schema=None,
                kind="view" if kind == "view" else "table",
                columns=tuple(
                    Column(
                        column,
                        column_kind(declared),
                        declared,
                        not notnull and not (primary[name] == (column,) and declared.upper() == "INTEGER"),
                    )
                    for column, declared, notnull, _ in columns[name]
                ),
                primary_key=primary.get(name, ()),
                foreign_keys=tuple(_foreign_key(links, primary) for links in foreign[name].values()),
                indexes=_index_columns(indexes[name].values(), primary.get(name, ())),
            )
            for name, kind in declared_tables
        ),
        (UnseenTables("", virtual),) if virtual else (),
    )
    return Declarations(catalog, tuple(computed_elsewhere))


def _is_computable(connection: Any, table: str, column: str) -> bool:
    """Whether SQLite alone can compute a generated column: its expression may call a function of the application.

    `connection` is a synchronous SQLAlchemy connection.
    """
    import sqlalchemy as sql
    from sqlalchemy.exc import DBAPIError

    try:
        connection.execute(sql.select(sql.column(column)).select_from(sql.table(table)).limit(0))
    except DBAPIError:
        return False
    return True


def _view_columns(connection: Any, view: str) -> list[Any]:
    from sqlalchemy.exc import DBAPIError

    try:
        return [tuple(row) for row in connection.exec_driver_sql(_VIEW_COLUMNS, (view,))]
    except DBAPIError:
        return []


def _index_columns(indexes: Iterable[list[str]], primary: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    own = {tuple(columns) for columns in indexes}
    if primary:
        own.add(primary)
    return tuple(sorted(own))


def _foreign_key(links: list[Any], primary: dict[str, tuple[str, ...]]) -> ForeignKey:
    referred = links[0][0]
    # A foreign key that names no column refers to the primary key (sqlite.org/foreignkeys.html, section 1).
    columns = [link[2] for link in links]
    named = tuple(columns) if None not in columns else primary.get(referred, ())
    return ForeignKey(tuple(link[1] for link in links), None, referred, named)


def read_roots(connection: Any) -> dict[str, tuple[int, bytes]]:
    """Read the root page of every table, and a digest of that and the declaration.

    `connection` is a synchronous SQLAlchemy connection.
    """
    statement = "SELECT name, rootpage, sql FROM sqlite_master WHERE type = 'table'"
    return {
        name: (root, xxhash.xxh3_64_digest(repr((root, sql)).encode("utf-8", "surrogateescape")))
        for name, root, sql in connection.exec_driver_sql(statement)
    }
