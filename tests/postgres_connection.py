"""A plain blocking connection to PostgreSQL for tests, usable inside and outside of coroutines."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from functools import cache
from itertools import count, islice
from types import TracebackType
from typing import Any, TypeVar

import asyncpg

from tests.applications import Cell, Row
from tests.deadlines import deadline_s

T = TypeVar("T")
NULL = "\x01"
ROWS_PER_PIECE = 2000


class _LoopThread:
    """An event loop in a thread, so that a test may block on the driver while its own loop runs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="postgres-for-tests", daemon=True)
        self._thread.start()
        atexit.register(self._close)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@cache
def _loop_thread() -> _LoopThread:
    return _LoopThread()


def _encode_time(value: object) -> str:
    return str(value)


class PostgresConnection:
    """One session, autocommitting unless the test says BEGIN. Parameters are `?`, as in SQLite.

    Values come as SQLite gives them: times as text, JSON as text, numbers as numbers; booleans are booleans,
    and 0 and 1 are taken for them. The driver's errors are passed on (`asyncpg.PostgresError`).
    """

    def __init__(self, url: str) -> None:
        self._connection: Any = _loop_thread().run(self._open(url))

    @staticmethod
    async def _open(url: str) -> Any:
        connection = await asyncpg.connect(url, timeout=deadline_s(30))
        for name in ("timestamp", "timestamptz"):
            await connection.set_type_codec(
                name, schema="pg_catalog", encoder=_encode_time, decoder=str, format="text"
            )
        await connection.set_type_codec(
            "bool",
            schema="pg_catalog",
            encoder=lambda value: "true" if value else "false",
            decoder=lambda text: text == "t",
            format="text",
        )
        return connection

    def execute(self, sql: str, *parameters: Cell) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        numbers = count(1)
        numbered = (
            "".join(f"${next(numbers)}" if part == "?" else part for part in _parts(sql)) if parameters else sql
        )
        return [tuple(row) for row in _loop_thread().run(self._connection.fetch(numbered, *parameters))]

    def script(self, sql: str) -> None:
        """Run several statements, without parameters and rows."""
        _loop_thread().run(self._connection.execute(sql))

    def copy(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Load rows by COPY in text format; 0 and 1 do for booleans, text for times."""
        _loop_thread().run(
            self._connection.copy_to_table(
                table, source=_pieces(iter(rows)), columns=columns, format="text", null=NULL
            )
        )

    def close(self) -> None:
        """End the session, even if the server has already gone."""
        if not self._connection.is_closed():
            _loop_thread().run(self._close())

    async def _close(self) -> None:
        try:
            await self._connection.close(timeout=deadline_s(5))
        except (asyncpg.PostgresError, OSError):
            self._connection.terminate()

    def __enter__(self) -> PostgresConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parts(sql: str) -> Iterator[str]:
    """The statement in parts, each question mark outside of quotes a part of its own."""
    for index, quoted in enumerate(sql.split("'")):
        if index % 2:
            yield f"'{quoted}'"
        else:
            for place, part in enumerate(quoted.split("?")):
                yield from ("?", part) if place else (part,)


async def _pieces(rows: Iterator[Row]) -> AsyncIterator[bytes]:
    while lines := [_line(row) for row in islice(rows, ROWS_PER_PIECE)]:
        yield "".join(lines).encode()


def _line(row: Row) -> str:
    cells = [NULL if cell is None else cell if isinstance(cell, str) else str(cell) for cell in row]
    line = "\t".join(cells)
    if "\\" in line or "\n" in line or "\r" in line or line.count("\t") >= len(row):
        line = "\t".join(_escaped(cell) for cell in cells)
    return line + "\n"


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
