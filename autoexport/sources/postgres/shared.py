"""Opens the exported snapshot of a PostgreSQL transaction in another process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from autoexport.config.address import DatabaseURL
from autoexport.errors import DatabaseAway
from autoexport.model.catalog import Catalog
from autoexport.sources.contract import SourceOptions
from autoexport.sources.postgres.engine import OPEN_TIMEOUT_S
from autoexport.sources.postgres.errors import explained
from autoexport.sources.postgres.portal import Portals
from autoexport.sources.postgres.second_connection import server_of
from autoexport.sources.postgres.snapshot import PostgresSnapshot


@dataclass(frozen=True, slots=True)
class SharedTransaction:
    """An exported snapshot, and what its transaction knows.

    `locked` are the locked tables. `name` is that of the exported snapshot, `server` tells its server from others.
    """

    url: DatabaseURL
    options: SourceOptions
    locked: Sequence[str]
    catalog: Catalog
    taken_at: datetime
    database: str
    encoding: str
    name: str
    server: str

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[PostgresSnapshot]:
        """Begin a transaction with the snapshot on a connection of its own. Raises `SourceError`."""
        # Imported here: the source imports this module.
        source: Any = import_module("autoexport.sources.postgres.source").PostgresSource(self.url, self.options)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(source.aclose)
            with explained(self.database):
                async with asyncio.timeout(OPEN_TIMEOUT_S):
                    begun = source.begin_beside(self.encoding, self.name, self.locked)
                    connection = await stack.enter_async_context(begun)
                    if await server_of(connection) != self.server:
                        raise DatabaseAway(f"{self.database} is several servers, and this is another one.")
            portals = Portals(AsyncSession(connection), lambda: None)
            stack.push_async_callback(portals.aclose)
            known = self.catalog, self.taken_at, self.database, self.encoding
            yield PostgresSnapshot(AsyncSession(connection), portals, None, _no_more, *known)


def _no_more(_name: str, _server: str) -> SharedTransaction:
    raise AssertionError("an adopted snapshot is not shared once more")
