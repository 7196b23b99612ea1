"""Opens a private copy that was just made, and reads its declarations.

It is loaded while the copy is made: SQLAlchemy takes as long to load as 400 MB to copy.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from sqlalchemy.dialects.sqlite import aiosqlite as _loaded_now  # noqa: F401 - not later, on the event loop
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from autoexport.config.database_url import file_uri
from autoexport.mapping.overrides import TablesConfig
from autoexport.runtime.interruption import interruptible
from autoexport.runtime.threads import in_thread
from autoexport.sources.sqlite.changes import PageChanges
from autoexport.sources.sqlite.errors import explain
from autoexport.sources.sqlite.opening import copy_engine, gate_of, set_up
from autoexport.sources.sqlite.page_scan import PageNotes
from autoexport.sources.sqlite.query_tables import close_gate, with_queries
from autoexport.sources.sqlite.schema import read_catalog, read_roots
from autoexport.sources.sqlite.shared import SharedCopy
from autoexport.sources.sqlite.snapshot import CODE_POINT, SqliteSnapshot

_HELPED_BYTES = 1 << 30
"""Below this size of a file, a second thread helps SQLite to sort, which takes two more runs in memory. Measured
with 1.1 million rows: 3.5 s instead of 4.8 s to read them in order, and 3 MB more memory."""


class CopyReading:
    """A private copy of the file `path`, taken at a time, and the notes on its pages.

    `computed_by_application` names what only the application's own functions could compute, after `snapshot`.
    """

    def __init__(self, copy: Path, path: Path, notes: PageNotes, taken_at: datetime) -> None:
        self._copy = copy
        self._paths = path, copy.parent
        self._notes = notes
        self._taken_at = taken_at
        self.computed_by_application: tuple[str, ...] = ()

    @contextlib.asynccontextmanager
    async def snapshot(self, tables: TablesConfig, *, shared: bool) -> AsyncIterator[SqliteSnapshot]:
        """Open the copy, and unlink it unless it is shared. It vanishes with its last descriptor.

        Raises `SourceError`.
        """
        async with contextlib.AsyncExitStack() as stack:
            descriptor = os.open(self._copy, os.O_RDONLY | os.O_CLOEXEC)
            # In a thread: closing the last descriptor frees the cached pages of the file, 0.1 s for 400 MB.
            stack.push_async_callback(in_thread, os.close, descriptor)
            engine = copy_engine(self._copy)
            stack.push_async_callback(engine.dispose)
            uri = f"{file_uri(self._copy)}?mode=ro&immutable=1"
            direct = sqlite3.connect(uri, uri=True, check_same_thread=False)
            stack.callback(direct.close)
            session = await stack.enter_async_context(AsyncSession(engine))
            stack.enter_context(interruptible(direct.interrupt))
            snapshot = await self._opened(session, descriptor, direct, tables, shared=shared)
            stack.enter_context(interruptible(await snapshot.interrupt()))
            stack.push_async_callback(snapshot.aclose)
            yield snapshot

    async def _opened(
        self,
        session: AsyncSession,
        descriptor: int,
        direct: sqlite3.Connection,
        tables: TablesConfig,
        *,
        shared: bool,
    ) -> SqliteSnapshot:
        """Let every connection open the copy, unlink it unless it is shared, and read its declarations.

        Raises `SourceError`.
        """
        try:
            size_bytes = os.fstat(descriptor).st_size
            connection = await set_up(session, helped=size_bytes < _HELPED_BYTES)
            encoding = (await connection.exec_driver_sql("PRAGMA encoding")).scalar_one()
            direct.execute("SELECT 1 FROM sqlite_master").fetchone()
            if not shared:
                self._copy.unlink()
            declared = await connection.run_sync(read_catalog)
            gate = await gate_of(session)
            catalog = await connection.run_sync(with_queries, gate, declared.catalog, tables)
            self.computed_by_application = declared.computed_by_application
            changes = PageChanges(descriptor, direct, await connection.run_sync(read_roots), self._notes)
        except DBAPIError as error:
            raise explain(error.orig or error, *self._paths) from error
        except sqlite3.Error as error:
            raise explain(error, *self._paths) from error
        await in_thread(close_gate, gate, catalog, tables)
        collation = "BINARY"
        if encoding != "UTF-8":
            # BINARY compares the stored bytes, whose order in UTF-16 is not that of the code points.
            collation = CODE_POINT
        snapshot = SqliteSnapshot(session, changes, self._taken_at, catalog, collation, size_bytes, self._paths)
        if shared:
            path, _ = self._paths
            read = gate.readable, gate.views
            snapshot.shared = SharedCopy(self._copy, path, self._taken_at, catalog, collation, size_bytes, *read)
        return snapshot
