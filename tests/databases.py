"""One interface for tests to SQLite in each journal mode and to PostgreSQL."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

from tests.applications import Cell
from tests.deadlines import deadline_s
from tests.postgres_connection import PostgresConnection

_EXECUTE = """
import json, sqlite3, sys
path, sql, parameters, timeout_s = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=float(timeout_s))
rows = connection.execute(sql, json.loads(parameters)).fetchall()
connection.close()
json.dump(rows, sys.stdout)
"""


class Connection(Protocol):
    """A session of the application, autocommitting unless the test says BEGIN."""

    def execute(self, sql: str, *parameters: Cell) -> list[tuple[Any, ...]]:
        """Run one statement; parameters are `?`."""
        ...

    def script(self, sql: str) -> None:
        """Run several statements without parameters."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


class SqliteConnection:
    """A session on a SQLite file. The driver's errors are passed on (`sqlite3.Error`)."""

    def __init__(self, path: Path) -> None:
        self.raw = sqlite3.connect(path, isolation_level=None, timeout=deadline_s(30), check_same_thread=False)

    def execute(self, sql: str, *parameters: Cell) -> list[tuple[Any, ...]]:
        """Run one statement; parameters are `?`."""
        return self.raw.execute(sql, parameters).fetchall()

    def script(self, sql: str) -> None:
        """Run several statements without parameters, in one transaction unless there is one."""
        self.raw.executescript(sql if self.raw.in_transaction else f"BEGIN; {sql}; COMMIT")

    def close(self) -> None:
        """End the session."""
        self.raw.close()


class Database:
    """The application's database and one session that the application keeps open until `close`.

    `kind` is sqlite-delete, sqlite-wal or postgresql, `url` what `--database-url` takes.
    """

    kind: str
    url: str
    _own: Connection | None = None

    def connect(self) -> Connection:
        """One more session, which the test closes."""
        raise NotImplementedError

    def execute_elsewhere(self, sql: str, *parameters: Cell) -> list[tuple[Any, ...]]:
        """Run one statement in another process than the test's."""
        raise NotImplementedError

    @property
    def own(self) -> Connection:
        """The application's session, opened when it is first needed."""
        if self._own is None:
            self._own = self.connect()
        return self._own

    def execute(self, sql: str, *parameters: Cell) -> list[tuple[Any, ...]]:
        """Run one statement in the application's session and return its rows; parameters are `?`."""
        return self.own.execute(sql, *parameters)

    def script(self, sql: str) -> None:
        """Run several statements in the application's session."""
        self.own.script(sql)

    def close(self) -> None:
        """Stop the application: close its session. The next `execute` opens a new one."""
        if self._own is not None:
            self._own.close()
            self._own = None


class SqliteDatabase(Database):
    """A SQLite file."""

    def __init__(self, path: Path, kind: str = "sqlite-delete") -> None:
        self.path = path
        self.kind = kind
        self.url = f"sqlite:///{path}"

    def connect(self) -> SqliteConnection:
        """One more connection, which the test closes."""
        return SqliteConnection(self.path)

    def execute_elsewhere(self, sql: str, *parameters: Cell) -> list[tuple[Any, ...]]:
        """Run one statement in another process, as another program would."""
        command = [sys.executable, "-I", "-c", _EXECUTE, str(self.path), sql, json.dumps(parameters)]
        command.append(str(deadline_s(30)))
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=deadline_s(60))
        return [tuple(row) for row in json.loads(done.stdout)]


class PostgresDatabase(Database):
    """A database of a PostgreSQL server."""

    kind = "postgresql"

    def __init__(self, url: str) -> None:
        self.url = url

    def connect(self) -> PostgresConnection:
        """One more session, which the test closes."""
        return PostgresConnection(self.url)

    def execute_elsewhere(self, sql: str, *parameters: Cell) -> list[tuple[Any, ...]]:
        """Run one statement in a session of its own; the server runs each in a process of its own."""
        with PostgresConnection(self.url) as connection:
            return connection.execute(sql, *parameters)
