"""Defines the tables, columns and keys of a database as it declares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Scalar = None | bool | int | float | str | bytes
"""A value as a source delivers it: never a type of the driver."""

Key = int | str | bytes
"""The value of a key column."""

ColumnKind = Literal[
    "integer",
    "real",
    "numeric",
    "text",
    "boolean",
    "time",
    "json",
    "uuid",
    "binary",
    "array",
    "composite",
    "geometric",
    "box",
    "range",
    "enum",
    "other",
    "opaque",
]
"""`geometric` is a list of points, and `box` PostgreSQL's own box. `opaque` values cannot be published."""

TableKind = Literal["table", "view", "foreign table", "partitioned table"]


# --- the declarations ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the database declares it. `type_name` is the type in the database's own words.

    `base` holds the names of the built-in types that PostgreSQL's values consist of. Domains, arrays and
    composites are taken apart; `record` stands for a composite.
    """

    name: str
    kind: ColumnKind
    type_name: str = ""
    nullable: bool = True
    base: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A declared foreign key. A composite one has several columns."""

    columns: tuple[str, ...]
    referred_schema: str | None
    referred_table: str
    referred_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueryBeside:
    """A query of the keys of images, one for each row that the main query reads in a subquery or an outer join.

    `stored` are the tables that it joins, and `key` is its column `image_id`. `traces` are texts of the query that
    give at least its rows from one table, by full name.
    """

    sql: str
    stored: tuple[Table, ...]
    key: Column
    traces: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """An SQL query in place of a table.

    `stored` are the tables and views that its text and the queries `beside` it name. `traces` are, by full name,
    texts that give at least its rows from one table: those whose rows make its rows. `columns` are the columns of
    each that may be read, by full name. `obstacle` says why changes of single rows cannot be followed. `changing`
    is a word by which the result changes while the tables do not, such as a random function. Both are empty
    otherwise.
    """

    sql: str
    stored: tuple[Table, ...] = ()
    traces: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beside: tuple[QueryBeside, ...] = ()
    obstacle: str = ""
    changing: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view as the database declares it.

    `indexes` holds the columns of each index, including those of primary keys and unique constraints. The rows of
    a table are also rows of its `ancestors`, from which it inherits (full names). `readable`: the connection may
    read all rows. `query`: this is no table but a query of the configuration, whose rows are read in place of a
    table.
    """

    name: str
    schema: str | None
    kind: TableKind
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    ancestors: frozenset[str] = frozenset()
    readable: bool = True
    query: Query | None = field(default=None, compare=False)

    @property
    def full_name(self) -> str:
        """`schema.name`, or the name alone if it has no schema."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def column(self, name: str) -> Column | None:
        """The column of exactly this name; None if there is none."""
        return next((column for column in self.columns if column.name == name), None)

    def has_index_on(self, column: str) -> bool:
        """Whether this column is the first one of an index."""
        return any(index[:1] == (column,) for index in self.indexes)


@dataclass(frozen=True, slots=True)
class UnseenTables:
    """Tables that are there and that the catalog does not list.

    `schema` is empty for virtual tables of SQLite. `usable`: the role has the USAGE right on the schema.
    """

    schema: str
    names: tuple[str, ...]
    usable: bool = True


@dataclass(frozen=True, slots=True)
class Catalog:
    """All tables and views that the connection can see.

    `queries` are the configured queries, by logical table.
    `unseen` lists other tables, if none of these is called images. `role` and `search_path` are those of the
    connection, empty if the database has none.
    """

    tables: tuple[Table, ...]
    unseen: tuple[UnseenTables, ...] = ()
    role: str = ""
    search_path: str = ""
    queries: Mapping[str, Table] = field(default_factory=dict)
    _by_name: dict[str, list[Table]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Index the tables: a database may have thousands, each with foreign keys to be followed."""
        for table in self.tables:
            self._by_name.setdefault(table.name.lower(), []).append(table)

    def named(self, name: str) -> list[Table]:
        """The tables of this name, of every schema; else those whose names differ from it only in case."""
        alike = self._by_name.get(name.lower(), [])
        return [table for table in alike if table.name == name] or list(alike)

    def exists(self, full_name: str) -> bool:
        """Whether there is a table, a view or a configured query of this full name."""
        return any(table.full_name == full_name for table in (*self.tables, *self.queries.values()))
