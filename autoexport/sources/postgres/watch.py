"""Checks whether transactions of a PostgreSQL server have ended, on one connection that is kept between checks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from autoexport.errors import SourceError
from autoexport.runtime.logs import get_logger
from autoexport.runtime.wake import pause
from autoexport.sources.postgres.errors import explained

CHECK_TIMEOUT_S = 30.0
KEPT_TIMEOUT_S = 10.0
"""Time limit for a check on a connection that was idle: a firewall may have forgotten it without a word."""

_SNAPSHOT = "SELECT pg_catalog.pg_current_snapshot()::text, NULL"
_SNAPSHOT_OF_STANDBY = "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_last_wal_replay_lsn()::text"
_IS_STANDBY = "SELECT pg_catalog.pg_is_in_recovery()"

Connect = Callable[[], AbstractAsyncContextManager[AsyncConnection]]

log = get_logger()


class CommitWatch:
    """Checks for ended transactions. Between checks, its connection is idle, without a transaction.

    `connect` opens a connection, and raises `SourceError`.
    """

    def __init__(self, connect: Connect, database: str, *, prepared_statements: bool) -> None:
        self._connect = connect
        self._database = database
        self._prepared_statements = prepared_statements
        self._turn = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._connection: AsyncConnection | None = None
        self._question = ""

    async def checks(self, interval_s: float, wake: asyncio.Event) -> AsyncIterator[bool]:
        """Yield whether a transaction has ended since the last check. Raises `SourceError`."""
        previous: Any = None
        try:
            while True:
                current = await self._ask()
                yield current != previous
                previous = current
                await pause(wake, interval_s)
        finally:
            async with self._turn:
                await self._close()

    async def _ask(self) -> Any:
        """The transactions that have ended.

        A server, a pooler or a firewall may end a connection that is idle. So only the failure of a connection
        that was opened for this check is an error.
        """
        async with self._turn:
            if self._connection is not None:
                try:
                    return await self._answer(self._connection, KEPT_TIMEOUT_S)
                except SourceError as error:
                    log.debug("check.reconnecting", error=str(error))
                    await self._close()
            try:
                return await self._answer(await self._open(), CHECK_TIMEOUT_S)
            except SourceError:
                await self._close()
                raise

    async def _answer(self, connection: AsyncConnection, limit_s: float) -> Any:
        with explained(self._database):
            async with asyncio.timeout(limit_s):
                current = (await connection.exec_driver_sql(self._question)).one()
                await connection.rollback()
        return current

    async def _open(self) -> AsyncConnection:
        opened = await self._opened.enter_async_context(self._connect())
        with explained(self._database):
            # pgbouncer executes a statement on the connection that prepared it only within a transaction.
            level = "AUTOCOMMIT" if self._prepared_statements else "READ COMMITTED"
            connection = await opened.execution_options(isolation_level=level)
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                standby = (await connection.exec_driver_sql(_IS_STANDBY)).scalar_one()
                await connection.rollback()
        self._question = _SNAPSHOT_OF_STANDBY if standby else _SNAPSHOT
        self._connection = connection
        return connection

    async def _close(self) -> None:
        self._connection = None
        with contextlib.suppress(SourceError):
            await self._opened.aclose()
