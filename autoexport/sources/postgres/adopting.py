"""Opens the exported snapshot of a PostgreSQL transaction by its name, on any machine."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from autoexport.errors import SnapshotGone
from autoexport.sources.contract import SharedSnapshot
from autoexport.sources.postgres.engine import OPEN_TIMEOUT_S, decode_leniently
from autoexport.sources.postgres.errors import DRIVER_ERRORS, explained, sqlstate
from autoexport.sources.postgres.known_catalog import KnownCatalog
from autoexport.sources.postgres.portal import Portals
from autoexport.sources.postgres.second_connection import server_of
from autoexport.sources.postgres.snapshot import PostgresSnapshot

NAME = re.compile(r"[0-9A-Fa-f]+-[0-9A-Fa-f]+-[0-9]+")
"""The form of the names that pg_export_snapshot() returns."""

_GONE = frozenset({"22023", "42704", "55000"})
"""The error codes of SET TRANSACTION SNAPSHOT if the transaction that exported the snapshot has ended."""

Begin = Callable[[str, str, Sequence[str]], AbstractAsyncContextManager[AsyncConnection]]
"""`PostgresSource.begin_beside`."""


@contextlib.asynccontextmanager
async def adopted(
    database: str, begin: Begin, catalog: KnownCatalog, name: str, server: str, taken_at: datetime
) -> AsyncIterator[PostgresSnapshot]:
    """The snapshot of this name; see `AdoptingSource.adopted`."""
    gone = SnapshotGone(
        f"No process holds the snapshot {name} of {database}.",
        hint="export-plan has ended, or works with another server. Start it and the ranges again.",
    )
    if NAME.fullmatch(name) is None:
        raise gone
    async with contextlib.AsyncExitStack() as stack:
        with explained(database):
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                try:
                    connection = await stack.enter_async_context(begin("", name, ()))
                except DRIVER_ERRORS as error:
                    if sqlstate(error) not in _GONE:
                        raise
                    raise gone from error
            if await server_of(connection) != server:
                raise gone
            declared = await catalog.read(connection)
            encoding = str((await connection.exec_driver_sql("SHOW server_encoding")).scalar_one())
            if encoding == "SQL_ASCII":
                await decode_leniently(connection)
        session = AsyncSession(connection)
        portals = Portals(session, lambda: None)
        stack.push_async_callback(portals.aclose)
        yield PostgresSnapshot(
            session, portals, None, _no_more, declared.catalog, taken_at, database, encoding
        )  # fmt: skip


def _no_more(_name: str, _server: str) -> SharedSnapshot:
    raise AssertionError("an adopted snapshot is not shared once more")
