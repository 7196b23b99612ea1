"""Opens a private copy in another process, while it still has a name."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from autoexport.model.blocks import Changes, Everything
from autoexport.model.catalog import Catalog
from autoexport.model.mapping import Mapping
from autoexport.sources.contract import Snapshot
from autoexport.sources.query_changes import QueryChanges
from autoexport.sources.readable_columns import Readable
from autoexport.sources.sqlite.changes import PageChanges
from autoexport.sources.sqlite.errors import explain
from autoexport.sources.sqlite.opening import copy_engine, gate_of, set_up
from autoexport.sources.sqlite.snapshot import SqliteSnapshot

_READS_ONLY = "this process only reads rows"


@dataclass(frozen=True, slots=True)
class SharedCopy:
    """A private copy, and what its snapshot knows of it.

    `readable` and `views` are what the mapping names. `path` is the application's file, for errors.
    """

    copy: Path
    path: Path
    taken_at: datetime
    catalog: Catalog
    collation: str
    size_bytes: int
    readable: Readable | None
    views: frozenset[str]

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[SqliteSnapshot]:
        """Open the copy. Raises `SourceError`."""
        paths = (self.path, self.copy.parent)
        engine = copy_engine(self.copy)
        try:
            async with AsyncSession(engine) as session:
                try:
                    # Without a thread that helps to sort: the other processes use the other cores.
                    await set_up(session, helped=False)
                    (await gate_of(session)).close(self.readable, self.views)
                except DBAPIError as error:
                    raise explain(error.orig or error, *paths) from error
                snapshot = SqliteSnapshot(
                    session, _NoPages(), self.taken_at, self.catalog, self.collation, self.size_bytes, paths
                )
                try:
                    yield snapshot
                finally:
                    await snapshot.aclose()
        finally:
            await engine.dispose()


class _NoPages(PageChanges):
    """Knows no page: the process that took the snapshot compares them."""

    def __init__(self) -> None:
        pass

    async def position(self, mapping: Mapping) -> None:
        """None."""

    async def obstacle(self, mapping: Mapping) -> str:
        """The reason."""
        return _READS_ONLY

    async def changes(
        self, snapshot: Snapshot, queries: QueryChanges, mapping: Mapping, since: Iterator[bytes]
    ) -> Changes | Everything:
        """Everything."""
        return Everything(_READS_ONLY)
