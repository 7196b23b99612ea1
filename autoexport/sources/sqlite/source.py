"""SQLite: a snapshot is a private copy, read in peace.

In this process the application's own file is opened only by SQLite itself, only to copy it: a plain
`open` and `close` would drop the POSIX locks that an application in the same process holds
(https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import xxhash
from sqlalchemy import URL
from sqlalchemy.dialects.sqlite import aiosqlite as _loaded_now  # noqa: F401 - not later, on the event loop
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import StaticPool

from autoexport.config.database_url import DatabaseURL, file_uri
from autoexport.errors import EmptyDatabase, SourceError
from autoexport.runtime.threads import in_stoppable_thread, in_thread
from autoexport.sources.contract import SourceOptions
from autoexport.sources.sqlite.changes import PageChanges
from autoexport.sources.sqlite.check_notes import check_notes
from autoexport.sources.sqlite.errors import explain
from autoexport.sources.sqlite.openable import refuse_to_leave_traces
from autoexport.sources.sqlite.page_scan import PageNotes
from autoexport.sources.sqlite.private_copy import copy_database
from autoexport.sources.sqlite.schema import read_catalog, read_roots
from autoexport.sources.sqlite.snapshot import CACHE_KIB, CODE_POINT, CodePointOrder, SqliteSnapshot
from autoexport.sources.sqlite.watch import watch_file

_HELPED_BYTES = 1 << 30
"""Up to this size of a file, a thread helps SQLite to sort, which takes two more runs in memory. Measured at 1.1
million rows: 3.5 s instead of 4.8 to read them in order, and 3 MB more."""


class SqliteSource:
    """A SQLite database file, rollback journal or WAL."""

    def __init__(self, url: DatabaseURL, options: SourceOptions) -> None:
        if url.path is None:
            raise SourceError("The URL names no file.", hint="Give sqlite:///path/to/file.db.")
        self.path = Path(os.path.abspath(url.path))
        self.database = os.fsencode(self.path.name).decode("utf-8", "replace")
        self.identity = xxhash.xxh3_64_hexdigest(b"sqlite:" + os.fsencode(os.path.realpath(self.path)))
        self._private = options.state

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SqliteSnapshot]:
        """Copy the file, open the copy, unlink it: it vanishes with the last descriptor."""
        copy = self._private / f"copy-{secrets.token_hex(8)}.sqlite3"
        async with contextlib.AsyncExitStack() as stack:
            notes = PageNotes(self._private)
            stack.push_async_callback(in_thread, notes.close)
            stack.callback(copy.unlink, missing_ok=True)
            given_up = threading.Event()
            await in_stoppable_thread(given_up, self._copy, copy, notes, given_up)
            taken_at = datetime.now(UTC)
            descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
            # With the last descriptor of a file without a name goes its memory: 0.1 s for 400 MB.
            stack.push_async_callback(in_thread, os.close, descriptor)
            # Nobody else knows this file, so there is nothing to lock and no journal to look for. As text, the URL
            # would be decoded once more.
            query = {"mode": "ro", "immutable": "1", "uri": "true"}
            url = URL.create("sqlite+aiosqlite", database=file_uri(copy), query=query)
            engine = create_async_engine(url, poolclass=StaticPool, connect_args={"factory": CodePointOrder})
            stack.push_async_callback(engine.dispose)
            direct = sqlite3.connect(f"{file_uri(copy)}?mode=ro&immutable=1", uri=True, check_same_thread=False)
            stack.callback(direct.close)
            session = await stack.enter_async_context(AsyncSession(engine))
            snapshot = await self._opened(session, copy, (descriptor, direct, notes), taken_at)
            stack.push_async_callback(snapshot.aclose)
            yield snapshot

    async def _opened(
        self,
        session: AsyncSession,
        copy: Path,
        pages: tuple[int, sqlite3.Connection, PageNotes],
        taken_at: datetime,
    ) -> SqliteSnapshot:
        """Unlink the copy's name, now that everything has it open, and read its declarations."""
        descriptor, direct, notes = pages
        try:
            connection = await session.connection()
            size_bytes = os.fstat(descriptor).st_size
            await connection.exec_driver_sql(f"PRAGMA cache_size=-{CACHE_KIB}")
            await connection.exec_driver_sql(f"PRAGMA threads={int(size_bytes < _HELPED_BYTES)}")
            encoding = (await connection.exec_driver_sql("PRAGMA encoding")).scalar_one()
            direct.execute("SELECT 1 FROM sqlite_master").fetchone()
            copy.unlink()
            catalog = await connection.run_sync(read_catalog)
            changes = PageChanges(descriptor, direct, await connection.run_sync(read_roots), notes)
        except DBAPIError as error:
            raise explain(error.orig or error, self.path, self._private) from error
        except sqlite3.Error as error:
            raise explain(error, self.path, self._private) from error
        collation = "BINARY"
        if encoding != "UTF-8":
            # BINARY compares the stored bytes, which in UTF-16 are not in code point order.
            collation = CODE_POINT
        places = (self.path, self._private)
        return SqliteSnapshot(session, changes, taken_at, catalog, collation, size_bytes, places)

    def _copy(self, copy: Path, notes: PageNotes, given_up: threading.Event) -> None:
        status = self._refuse_what_cannot_be_opened()
        refuse_to_leave_traces(self.path)
        copy_database(self.path, status, copy, notes, given_up)

    def _refuse_what_cannot_be_opened(self) -> os.stat_result:
        """Say in plain words what SQLite would report as "unable to open database file"; else which file it is."""
        try:
            status = self.path.stat()
        except FileNotFoundError as error:
            raise SourceError(
                f"There is no database file {self.path}.",
                hint="Check --database-url; the file is never created here.",
            ) from error
        except OSError as error:
            raise SourceError(
                f"The database file {self.path} cannot be reached: {error.strerror}.",
                hint="Check the permissions of the folders above it.",
            ) from error
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(
                f"{self.path} is not a file.", hint="Name the database file itself, not the folder it is in."
            )
        if not os.access(self.path, os.R_OK):
            raise SourceError(
                f"No permission to read {self.path}.", hint="Let this user read the file and its folder."
            )
        if status.st_size == 0:
            raise EmptyDatabase(
                f"{self.path} is empty: it has no tables.",
                hint="Start the application once, or check --database-url.",
            )
        return status

    def checks(self, interval_s: float, *, hooks: bool, wake: asyncio.Event | None = None) -> AsyncIterator[bool]:
        """By `stat`, sooner with file events; the file is not opened."""
        return watch_file(self.path, interval_s, hooks=hooks, wake=wake or asyncio.Event())

    async def check_notes(self) -> list[str]:
        """What `check` has to say about the file. Raises `SourceError`."""
        return await in_thread(check_notes, self.path)

    async def aclose(self) -> None:
        """Nothing is held between snapshots."""
