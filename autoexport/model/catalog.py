"""The records that are handed from station to station."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scalar = None | bool | int | float | str | bytes
"""What a source delivers for a column: never a driver's own type."""

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
    "enum",
    "other",
]

TableKind = Literal["table", "view", "foreign table", "partitioned table"]


# --- what a database has -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the database declares it; `type_name` is the database's own word for its type."""

    name: str
    kind: ColumnKind
    type_name: str = ""
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A declared foreign key; composite ones have several columns."""

    columns: tuple[str, ...]
    referred_schema: str | None
    referred_table: str
    referred_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view as the database declares it. `indexes` holds the column lists of all indexes,
    those of primary keys and unique constraints included."""

    name: str
    schema: str | None
    kind: TableKind
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()

    @property
    def full_name(self) -> str:
        """`schema.name`, or the name alone where there is no schema."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def column(self, name: str) -> Column | None:
        """The column of exactly this name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    def has_index_on(self, column: str) -> bool:
        """Whether an index begins with this column."""
        return any(index[:1] == (column,) for index in self.indexes)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All tables and views that the connection can see."""

    tables: tuple[Table, ...]
