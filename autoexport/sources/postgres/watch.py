"""Checks whether transactions of a PostgreSQL server have ended, on one connection that is kept between checks.

One connection at a time is enough for an exporter. If a snapshot finds no room for its own connection, that of the
checks is closed for it. While such a snapshot is open, nothing can be checked: a check then says that nothing
changed, and the first check after it finds what did.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from autoexport.errors import SourceError
from autoexport.runtime.logs import get_logger
from autoexport.runtime.waits import waiting
from autoexport.runtime.wake import pause
from autoexport.sources.postgres.engine import OPEN_TIMEOUT_S
from autoexport.sources.postgres.errors import explained, is_late, lacks_room
from autoexport.sources.postgres.portal import Portals

CHECK_TIMEOUT_S = 30.0
KEPT_TIMEOUT_S = 10.0
"""Time limit for a check on a connection that was idle: a firewall may have forgotten it without a word."""

ROOM_S = 2.0
_ROOM_TRY_S = 0.05
"""How long, and how often, a new connection is tried after one of ours was closed: the server counts a connection
until its process has ended."""

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
        self._only_one = False
        self._snapshots: list[AsyncExitStack] = []
        self._portals: list[Portals] = []
        self._room_until = 0.0

    # --- snapshots beside the checks -------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def connection_for_snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A new connection for a snapshot. Raises `SourceError`.

        If there is only room for one, the kept connection is closed first.
        """
        async with AsyncExitStack() as opened:
            self._snapshots.append(opened)
            try:
                with waiting():
                    if self._only_one:
                        await self._give_up()
                    connection = await self._with_room(opened)
                yield connection
            finally:
                self._snapshots.remove(opened)
        self._room_until = time.monotonic() + ROOM_S

    @contextlib.contextmanager
    def reading(self, portals: Portals) -> Iterator[None]:
        """Inside, these portals are read: their rows show that the server answers."""
        self._portals.append(portals)
        try:
            yield
        finally:
            self._portals.remove(portals)

    async def _give_up(self) -> None:
        async with self._turn:
            if self._connection is not None:
                await self._close()
                self._room_until = time.monotonic() + ROOM_S

    async def _with_room(self, opened: AsyncExitStack) -> AsyncConnection:
        while True:
            beside = self._connection is not None
            try:
                async with asyncio.timeout(OPEN_TIMEOUT_S if beside else None):
                    return await opened.enter_async_context(self._connect())
            except (SourceError, TimeoutError) as error:
                if beside and (lacks_room(error) or is_late(error)):
                    log.debug("snapshot.no_room", error=str(error))
                    self._only_one = True
                    await self._give_up()
                elif not await self._awaited_room(error):
                    raise

    async def _awaited_room(self, error: BaseException) -> bool:
        """Whether to try again, a moment later, because the room of a connection of ours is about to be free."""
        if not lacks_room(error) or time.monotonic() > self._room_until:
            return False
        await asyncio.sleep(_ROOM_TRY_S)
        return True

    # --- checks ----------------------------------------------------------------------------------------------

    async def checks(self, interval_s: float, wake: asyncio.Event) -> AsyncIterator[bool]:
        """Yield whether a transaction has ended since the last check. Raises `SourceError`."""
        previous: Any = None
        try:
            while True:
                current = await self._ask()
                yield current is not None and current != previous
                previous = current or previous
                await pause(wake, interval_s)
        finally:
            async with self._turn:
                await self._close()

    async def _ask(self) -> Any:
        """The transactions that have ended; None if a snapshot has the only connection.

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
            while not (self._only_one and self._snapshots):
                try:
                    return await self._answer(await self._open(), CHECK_TIMEOUT_S)
                except SourceError as error:
                    await self._close()
                    if self._waits_for_snapshot(error):
                        self._only_one = True
                    elif not await self._awaited_room(error):
                        raise
            return None

    def _waits_for_snapshot(self, error: SourceError) -> bool:
        """Whether a check failed because a snapshot has the only connection.

        If a pooler lets the check wait, the rows of the snapshot show that the server is well.
        """
        if lacks_room(error):
            return bool(self._snapshots)
        since = time.monotonic() - CHECK_TIMEOUT_S
        return is_late(error) and any(portals.answered_at > since for portals in self._portals)

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
