"""Streams the rows of a PostgreSQL statement through a portal and fetches the next partition ahead.

SQLAlchemy compiles the statement and holds the transaction. The rows come directly from the driver's cursor:
making a `Row` of each took as long as receiving it (1.1 million rows: 3.8 s instead of 1.8 s).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from autoexport.sources.partitions import lengths, next_size

MOST_ROWS = 1024
"""Rows of the largest partition. A stream holds two partitions at a time."""

Rows = Sequence[Sequence[Any]]


class Portals:
    """The portals of one transaction: many may be open, one is read at a time."""

    def __init__(self, session: AsyncSession, statement_name: Callable[[], str | None]) -> None:
        self.turn = asyncio.Lock()
        """Held while the connection is in use: it serves one request at a time."""
        self.answered_at = time.monotonic()
        """When the server last answered, on the monotonic clock."""
        self._session = session
        self._statement_name = statement_name
        self._ahead: set[asyncio.Task[Rows]] = set()

    async def stream(self, statement: Select[Any], wide_column: int | None) -> AsyncGenerator[Rows, None]:
        """The rows in partitions; `wide_column`, if given, is the index of a column whose values may be long.

        A partition has up to `MOST_ROWS` rows, and fewer if their wide values are long.
        """
        async with aclosing(self.rows(await self.open(statement), wide_column)) as parts:
            async for part in parts:
                yield part

    async def rows(self, cursor: Any, wide_column: int | None) -> AsyncGenerator[Rows, None]:
        """The rows of an open portal, as `stream` yields them."""
        size = MOST_ROWS if wide_column is None else 256
        ahead: asyncio.Task[Rows] | None = self._fetch_ahead(cursor, size)
        try:
            while ahead is not None and (part := await ahead):
                is_last = len(part) < size
                if wide_column is not None:
                    size = next_size(len(part), lengths([row[wide_column] for row in part]), MOST_ROWS)
                ahead = None if is_last else self._fetch_ahead(cursor, size)
                yield part
        finally:
            if ahead is not None:
                await asyncio.wait({ahead})

    async def aclose(self) -> None:
        """Cancel all fetches: their rows are not needed any more."""
        self.cancel()
        if self._ahead:
            await asyncio.wait(self._ahead)

    def cancel(self) -> None:
        """Cancel all fetches, and let the server cancel their statements."""
        for task in self._ahead:
            task.cancel()

    async def open(self, statement: Select[Any]) -> Any:
        """A cursor on a new portal. The server has planned the statement and taken its locks, but read nothing."""
        async with self.turn:
            connection = await self._session.connection()
            compiled = statement.compile(dialect=connection.dialect)
            arguments = [compiled.params[name] for name in getattr(compiled, "positiontup", None) or ()]
            driver: Any = (await connection.get_raw_connection()).driver_connection
            prepared = await driver.prepare(str(compiled), name=self._statement_name())
            cursor = await prepared.cursor(*arguments)
        self.answered_at = time.monotonic()
        return cursor

    def _fetch_ahead(self, cursor: Any, size: int) -> asyncio.Task[Rows]:
        task = asyncio.create_task(self._fetch(cursor, size), name="autoexport: next rows")
        self._ahead.add(task)
        task.add_done_callback(self._fetched)
        return task

    async def _fetch(self, cursor: Any, size: int) -> Rows:
        async with self.turn:
            fetched: Rows = await cursor.fetch(size)
        self.answered_at = time.monotonic()
        return fetched

    def _fetched(self, task: asyncio.Task[Rows]) -> None:
        self._ahead.discard(task)
        if not task.cancelled():
            task.exception()  # mark it as retrieved: `rows` raises it, if it still waits
