"""Streams a statement on a second connection with the same snapshot, beside the first connection.

The server sorts a portal on one processor before its first row. Two portals that share the rows take half as long.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from autoexport.errors import SourceError
from autoexport.runtime.interruption import interruptible
from autoexport.runtime.logs import get_logger
from autoexport.runtime.prefetch import prefetched
from autoexport.sources.postgres.engine import OPEN_TIMEOUT_S
from autoexport.sources.postgres.errors import DRIVER_ERRORS
from autoexport.sources.postgres.portal import Portals, Rows

log = get_logger()

KEEP_S = 20.0
"""The longest time that a connection stays unused: well below the usual limits for idle transactions."""

_MAY_EXPORT = """
SELECT pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pg_catalog.pg_export_snapshot()'), 'EXECUTE')
"""
_EXPORT = "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_postmaster_start_time()::text"
_SERVER = "SELECT pg_catalog.pg_postmaster_start_time()::text"

NO_CONNECTION: tuple[type[Exception], ...] = (*DRIVER_ERRORS, SourceError)

Begin = Callable[[str], contextlib.AbstractAsyncContextManager[AsyncConnection]]
"""Begins a transaction on a new connection, with the exported snapshot of this name."""


class SecondConnection:
    """One statement on a second connection, during the transaction of `session`.

    `turn` is the lock of the first connection (`Portals.turn`).
    """

    def __init__(self, session: AsyncSession, turn: asyncio.Lock, begin: Begin) -> None:
        self._session = session
        self._turn = turn
        self._begin = begin
        self._opened = contextlib.AsyncExitStack()

    async def stream(self, statement: Select[Any], wide_column: int | None) -> AsyncIterator[Rows] | None:
        """The rows of a statement, fetched from now on; None if no second connection is available.

        A connection to another server, through a pool that balances load, counts as none. Rows raise the driver's
        errors.
        """
        exported = await self.exported()
        if exported is None:
            return None
        name, server = exported
        first = await self._session.connection()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                second = await self._opened.enter_async_context(self._begin(name))
                same = await server_of(second) == server
                portals = Portals(AsyncSession(second), lambda: None)
                # Opened within the time limit: planning also locks indexes, and may have to wait for them.
                portal = await portals.open(statement) if same else None
        except NO_CONNECTION as error:
            log.debug("snapshot.alone", error=type(error).__name__)
            portal = None
        if portal is None:
            await self._opened.aclose()
            return None
        parts = await self._opened.enter_async_context(prefetched(portals.rows(portal, wide_column)))
        # On exit this runs before `prefetched` waits for its fetch, which may last as long as the sorting.
        self._opened.push_async_callback(portals.aclose)
        self._opened.enter_context(interruptible(portals.cancel))
        connections = [(first, self._turn), (second, portals.turn)]
        keeping = asyncio.create_task(_keep_alive(connections), name="autoexport: keep alive")
        self._opened.push_async_callback(_end, keeping)
        return parts

    async def exported(self) -> tuple[str, str] | None:
        """The name of the exported snapshot, and what tells the server from others; None if it may not be
        exported. Raises the driver's errors.
        """
        async with self._turn:
            first = await self._session.connection()
            if not (await first.exec_driver_sql(_MAY_EXPORT)).scalar_one():
                return None
            exported: Sequence[Any] = (await first.exec_driver_sql(_EXPORT)).one()
        name, server = exported
        return str(name), str(server)

    @contextlib.asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Use the first connection from time to time, while others read the snapshot."""
        connections = [(await self._session.connection(), self._turn)]
        keeping = asyncio.create_task(_keep_alive(connections), name="autoexport: keep alive")
        try:
            yield
        finally:
            await _end(keeping)

    async def aclose(self) -> None:
        """Stop reading and close the second connection."""
        await self._opened.aclose()


async def server_of(connection: AsyncConnection) -> str:
    """What tells this server from others: behind one address, a pool may have several."""
    return str((await connection.exec_driver_sql(_SERVER)).scalar_one())


async def _keep_alive(connections: Sequence[tuple[AsyncConnection, asyncio.Lock]]) -> None:
    """Use these connections every `KEEP_S` seconds: each is idle while the rows of others are read.

    The server, or a pool in front of it, ends a transaction that is idle for long.
    """
    while True:
        await asyncio.sleep(KEEP_S)
        for connection, turn in connections:
            async with turn:
                await connection.exec_driver_sql("SELECT 1")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # mark it as retrieved: reading the rows raises it as well
