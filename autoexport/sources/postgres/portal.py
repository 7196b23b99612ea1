"""Rows of a PostgreSQL statement through a portal of the server, the next partition fetched ahead.

SQLAlchemy compiles the statement and holds the transaction; the rows come from the driver's cursor
directly: a `Row` for each of them took as long as receiving it (1.1 million rows: 3.8 s instead of 1.8 s).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from autoexport.sources.partitions import lengths, next_size

MOST_ROWS = 1024
"""In a partition; two of a stream are held at a time."""

Rows = Sequence[Sequence[Any]]


class Portals:
    """The portals of one transaction: many may be open, one is used at a time."""

    def __init__(self, session: AsyncSession, statement_name: Callable[[], str | None]) -> None:
        self.turn = asyncio.Lock()
        """Held by whoever uses the connection."""
        self._session = session
        self._statement_name = statement_name
        self._ahead: set[asyncio.Task[Rows]] = set()

    async def stream(self, statement: Select[Any], wide_column: int | None) -> AsyncGenerator[Rows, None]:
        """The rows in partitions: many at a time where they are small, few where they are large."""
        async with aclosing(self.rows(await self.open(statement), wide_column)) as parts:
            async for part in parts:
                yield part

    async def rows(self, cursor: Any, wide_column: int | None) -> AsyncGenerator[Rows, None]:
        """The rows of a portal that is open."""
        rows = MOST_ROWS if wide_column is None else 256
        ahead: asyncio.Task[Rows] | None = self._fetch_ahead(cursor, rows)
        try:
            while ahead is not None and (part := await ahead):
                over = len(part) < rows
                if wide_column is not None:
                    rows = next_size(len(part), lengths([row[wide_column] for row in part]), MOST_ROWS)
                ahead = None if over else self._fetch_ahead(cursor, rows)
                yield part
        finally:
            if ahead is not None:
                await asyncio.wait({ahead})

    async def aclose(self) -> None:
        """Wait for nobody: what is being fetched is not wanted any more."""
        for task in self._ahead:
            task.cancel()
        if self._ahead:
            await asyncio.wait(self._ahead)

    async def open(self, statement: Select[Any]) -> Any:
        """A portal: the statement is planned, and its locks are taken, but nothing is read or sorted yet."""
        async with self.turn:
            connection = await self._session.connection()
            compiled = statement.compile(dialect=connection.dialect)
            arguments = [compiled.params[name] for name in getattr(compiled, "positiontup", None) or ()]
            driver: Any = (await connection.get_raw_connection()).driver_connection
            prepared = await driver.prepare(str(compiled), name=self._statement_name())
            return await prepared.cursor(*arguments)

    def _fetch_ahead(self, cursor: Any, rows: int) -> asyncio.Task[Rows]:
        task = asyncio.create_task(self._fetch(cursor, rows), name="autoexport: next rows")
        self._ahead.add(task)
        task.add_done_callback(self._fetched)
        return task

    async def _fetch(self, cursor: Any, rows: int) -> Rows:
        async with self.turn:
            fetched: Rows = await cursor.fetch(rows)
            return fetched

    def _fetched(self, task: asyncio.Task[Rows]) -> None:
        self._ahead.discard(task)
        if not task.cancelled():
            task.exception()  # whoever awaits it learns of it; nobody has to
