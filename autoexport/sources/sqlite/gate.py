"""Lets the reading connection read only the columns that the mapping names
(sqlite.org/c3ref/set_authorizer.html).
"""

from __future__ import annotations

import sqlite3

from autoexport.sources.readable_columns import Readable

_FUNCTIONS = frozenset({"json_each", "json_tree", "generate_series", "sqlite_master", "sqlite_schema"})
"""Tables that SQLite computes, and its own table of declarations."""


class Gate:
    """The decision about each access of a statement. It is open until `readable` is set.

    `views` may read everything. `refused` is the last table and column that were refused.
    """

    def __init__(self) -> None:
        self.readable: Readable | None = None
        self.refused: tuple[str, str] | None = None
        self._lower: Readable | None = None
        self.views: frozenset[str] = frozenset()

    def close(self, readable: Readable | None, views: frozenset[str] = frozenset()) -> None:
        """Allow these columns alone, and all that these views read; None allows everything.

        Names are compared as SQLite does, in lower case.
        """
        self.readable, self.refused = readable, None
        self.views = frozenset(name.lower() for name in views)
        self._lower = None
        if readable is not None:
            self._lower = {
                table.lower(): frozenset(column.lower() for column in columns)
                for table, columns in readable.items()
            }

    def __call__(
        self, action: int, first: str | None, second: str | None, _database: str | None, source: str | None
    ) -> int:
        """Whether SQLite may do this; a callback of `sqlite3.Connection.set_authorizer`."""
        if self._lower is None:
            return sqlite3.SQLITE_OK
        if action != sqlite3.SQLITE_READ:
            # The file cannot be written to. Another file, or a program, might be.
            other = action == sqlite3.SQLITE_ATTACH or second == "load_extension"
            return sqlite3.SQLITE_DENY if other else sqlite3.SQLITE_OK
        table, column = (first or "").lower(), (second or "").lower()
        if table in _FUNCTIONS or table.startswith("pragma_") or (source or "").lower() in self.views:
            return sqlite3.SQLITE_OK
        # Without a column, SQLite only counts rows. The rowid is a number of its own.
        if column in ("", "rowid") or column in self._lower.get(table, ()):
            return sqlite3.SQLITE_OK
        self.refused = first or "", second or ""
        return sqlite3.SQLITE_DENY
