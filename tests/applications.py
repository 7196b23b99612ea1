"""The database of the original application, created in SQLite or PostgreSQL and copied between them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from tests.deadlines import deadline_s
from tests.population import (
    CANARY,
    CANARY_NUMBER,
    COLUMNS,
    INDEXES,
    SCHEMA,
    Cell,
    Row,
    annotation_row,
    image_row,
    key,
    sample_rows,
)  # fmt: skip

__all__ = [
    "CANARY", "CANARY_NUMBER", "COLUMNS", "INDEXES", "SCHEMA", "Cell", "Row",
    "annotation_row", "copy_to_postgres", "create_postgres", "create_sqlite", "fill_postgres", "fill_sqlite",
    "image_row", "key", "postgres_schema", "sample_rows",
]  # fmt: skip


class CopiesRows(Protocol):
    """A PostgreSQL connection as these functions need it (see `tests.postgres.PostgresConnection`)."""

    def execute(self, sql: str, *parameters: Cell) -> Sequence[tuple[object, ...]]:
        """Run one statement."""
        ...

    def copy(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Load rows by COPY."""
        ...


# --- SQLite --------------------------------------------------------------------------------------


def create_sqlite(
    path: Path | str,
    journal_mode: str = "delete",
    page_size: int = 4096,
    schema: str = "app",
    indexes: bool = False,
) -> sqlite3.Connection:
    """Create an empty database of the application and return an autocommitting connection to it.

    The caller closes the connection. `schema` is "app" or the SQL of other tables. `page_size` is in bytes, a
    power of two from 512 to 65536. Like the application, it creates no indexes on the foreign keys unless
    `indexes` is set.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=deadline_s(30), check_same_thread=False)
    connection.execute(f"PRAGMA page_size = {page_size}")
    (mode,) = connection.execute(f"PRAGMA journal_mode = {journal_mode}").fetchone()
    assert mode == journal_mode.lower(), f"SQLite chose journal mode {mode} instead of {journal_mode}"
    connection.executescript(f"BEGIN; {SCHEMA if schema == 'app' else schema}; COMMIT")
    if indexes:
        connection.executescript(";".join(INDEXES))
    return connection


def fill_sqlite(connection: sqlite3.Connection, orphans: bool = False) -> None:
    """Insert the sample rows in one transaction (see `sample_rows`)."""
    connection.execute("BEGIN")
    for table, rows in sample_rows(orphans=orphans).items():
        marks = ",".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    connection.execute("COMMIT")


# --- PostgreSQL ----------------------------------------------------------------------------------

_TYPES = {
    "INTEGER": "bigint",
    "FLOAT": "double precision",
    "DATETIME": "timestamp",
    "BOOLEAN": "boolean",
    "BLOB": "bytea",
}


def _postgres_type(declared: str, json_type: str) -> str:
    if declared == "JSON":
        return json_type
    return _TYPES.get(declared, declared.lower())


def _columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, str, bool, int]]:
    """Name, declared type, NOT NULL and position in the primary key of each column."""
    found = connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (table,))
    return [(name, kind.upper(), bool(required), place) for name, kind, required, place in found]


def _tables(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    return [name for (name,) in found]


def _widened(connection: sqlite3.Connection, table: str, column: str, kind: str) -> str:
    """The type that also holds what SQLite let in: text longer than declared, fractions in integer columns."""
    (longest, fractions) = connection.execute(
        f'SELECT max(length("{column}")), sum(typeof("{column}") = \'real\') FROM "{table}"'
    ).fetchone()
    if kind == "bigint" and fractions:
        return "double precision"
    if kind.startswith("varchar(") and (longest or 0) > int(kind[len("varchar(") : -1]):
        return "varchar"
    return kind


def postgres_schema(connection: sqlite3.Connection, json_type: str = "json") -> list[str]:
    """The statements that create the tables of a SQLite database in PostgreSQL.

    Tables come first, then primary keys, then foreign keys. Types correspond: varchar(n), text, bigint, double
    precision, boolean, timestamp, and `json_type` (json or jsonb). Foreign keys between columns of different
    types, which only SQLite accepts, are left out.
    """
    kinds = {
        table: {
            name: _widened(connection, table, name, _postgres_type(declared, json_type))
            for name, declared, _, _ in _columns(connection, table)
        }
        for table in _tables(connection)
    }
    statements = []
    key_statements = []
    links = []
    for table in kinds:
        lines = []
        for name, _, required, _ in _columns(connection, table):
            lines.append(f'"{name}" {kinds[table][name]}{" NOT NULL" if required else ""}')
        keys = sorted((place, name) for name, _, _, place in _columns(connection, table) if place)
        statements.append(f'CREATE TABLE "{table}" ({", ".join(lines)})')
        if keys:
            names = ", ".join(f'"{name}"' for _, name in keys)
            key_statements.append(f'ALTER TABLE "{table}" ADD PRIMARY KEY ({names})')
        for _, _, parent, column, referred, *_ in connection.execute(f'PRAGMA foreign_key_list("{table}")'):
            if kinds[table][column] == kinds[parent][referred or "id"]:
                link = f'FOREIGN KEY ("{column}") REFERENCES "{parent}" ("{referred or "id"}")'
                links.append(f'ALTER TABLE "{table}" ADD {link}')
    return statements + key_statements + links


def create_postgres(connection: CopiesRows, json_type: str = "json", indexes: bool = False) -> None:
    """Make the application's empty tables in an empty PostgreSQL database."""
    with_tables = create_sqlite(":memory:", journal_mode="memory")
    try:
        statements = postgres_schema(with_tables, json_type)
    finally:
        with_tables.close()
    for statement in (*statements, *(INDEXES if indexes else ())):
        connection.execute(statement)


def fill_postgres(connection: CopiesRows, orphans: bool = False) -> None:
    """Load the sample rows; orphans need a role whose foreign keys are not enforced, as in the tests."""
    for table, rows in sample_rows(orphans=orphans).items():
        connection.copy(table, COLUMNS[table], rows)


def copy_to_postgres(source: sqlite3.Connection, target: CopiesRows, json_type: str = "json") -> None:
    """Copy all tables of a SQLite database, with their rows, into an empty PostgreSQL database."""
    for statement in postgres_schema(source, json_type):
        target.execute(statement)
    for table in _tables(source):
        rows = source.execute(f'SELECT * FROM "{table}"').fetchall()
        target.copy(table, [name for name, *_ in _columns(source, table)], rows)
