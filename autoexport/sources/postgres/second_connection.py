"""A second connection that sees the same snapshot, for a statement that is sorted while the first one works.

A portal that is read in turns is sorted on one processor, before its first row: two that share the rows take half
as long.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from autoexport.errors import SourceError
from autoexport.runtime.logs import get_logger
from autoexport.runtime.prefetch import prefetched
from autoexport.sources.postgres.errors import DRIVER_ERRORS
from autoexport.sources.postgres.portal import Portals, Rows

log = get_logger()

OPEN_TIMEOUT_S = 5.0
"""How long a second connection may take: a pool that has none to spare would let it wait."""

KEEP_S = 20.0
"""How often a connection is used, at least: a good deal more often than is usual to be asked of a client."""

_MAY_EXPORT = """
SELECT pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pg_catalog.pg_export_snapshot()'), 'EXECUTE')
"""
_EXPORT = "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_postmaster_start_time()::text"
_SERVER = "SELECT pg_catalog.pg_postmaster_start_time()::text"

_NO_CONNECTION: tuple[type[Exception], ...] = (*DRIVER_ERRORS, SourceError)

Begin = Callable[[str], contextlib.AbstractAsyncContextManager[AsyncConnection]]
"""Begins a transaction on a connection of its own, with the snapshot of this name."""


class SecondConnection:
    """What is read beside the transaction of a session, while that lasts."""

    def __init__(self, session: AsyncSession, turn: asyncio.Lock, begin: Begin) -> None:
        self._session = session
        self._turn = turn
        self._begin = begin
        self._opened = contextlib.AsyncExitStack()

    async def stream(self, statement: Select[Any], wide_column: int | None) -> AsyncIterator[Rows] | None:
        """The rows of a statement, of which the first are fetched from now on; None where there is no second
        connection to be had, or not one to the same server."""
        async with self._turn:
            here = await self._session.connection()
            if not (await here.exec_driver_sql(_MAY_EXPORT)).scalar_one():
                return None
            exported: Sequence[Any] = (await here.exec_driver_sql(_EXPORT)).one()
        name, server = exported
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                connection = await self._opened.enter_async_context(self._begin(name))
                same = (await connection.exec_driver_sql(_SERVER)).scalar_one() == server
                portals = Portals(AsyncSession(connection), lambda: None)
                # Planning locks indexes as well, which may be waited for: here, where there is another way.
                portal = await portals.open(statement) if same else None
        except _NO_CONNECTION as error:
            log.debug("snapshot.alone", error=type(error).__name__)
            portal = None
        if portal is None:
            await self._opened.aclose()
            return None
        parts = await self._opened.enter_async_context(prefetched(portals.rows(portal, wide_column)))
        # Called first: who waits for rows that nobody wants any more does not have to wait for the sorting.
        self._opened.push_async_callback(portals.aclose)
        sessions = [(here, self._turn), (connection, portals.turn)]
        self._opened.push_async_callback(_ended, asyncio.create_task(_kept(sessions), name="autoexport: keep"))
        return parts

    async def aclose(self) -> None:
        """Give up what is being read, and close the connection."""
        await self._opened.aclose()


async def _kept(sessions: Sequence[tuple[AsyncConnection, asyncio.Lock]]) -> None:
    """Ask something now and then: while the rows of one connection are read, the other has nothing to do, and the
    server, or what stands before it, ends a transaction that is idle for long."""
    while True:
        await asyncio.sleep(KEEP_S)
        for connection, turn in sessions:
            async with turn:
                await connection.exec_driver_sql("SELECT 1")


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # whoever reads the rows meets it as well
