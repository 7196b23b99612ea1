"""A SQLite file as a source: each snapshot is a private copy.

In this process, only SQLite itself opens the application's own file, and only to copy it. A plain `open` and
`close` would drop the POSIX locks of an application in the same process (https://www.sqlite.org/howtocorrupt.html,
section 2.2).
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
from sqlalchemy.dialects.sqlite import aiosqlite as _loaded_now  # noqa: F401 - not later, on the event loop
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from autoexport.config.address import DatabaseURL
from autoexport.config.database_url import file_uri, published_name
from autoexport.errors import EmptyDatabase, SourceError
from autoexport.runtime.interruption import interruptible
from autoexport.runtime.threads import in_stoppable_thread, in_thread
from autoexport.sources.contract import SourceOptions
from autoexport.sources.sqlite.changes import PageChanges
from autoexport.sources.sqlite.check_notes import check_notes
from autoexport.sources.sqlite.commit_marks import CommitMarks
from autoexport.sources.sqlite.errors import explain
from autoexport.sources.sqlite.openable import refuse_to_leave_traces
from autoexport.sources.sqlite.opening import copy_engine, gate_of, set_up
from autoexport.sources.sqlite.page_scan import PageNotes
from autoexport.sources.sqlite.private_copy import copy_database
from autoexport.sources.sqlite.query_tables import close_gate, with_queries
from autoexport.sources.sqlite.schema import read_catalog, read_roots
from autoexport.sources.sqlite.shared import SharedCopy
from autoexport.sources.sqlite.snapshot import CODE_POINT, SqliteSnapshot
from autoexport.sources.sqlite.watch import watch_file

_HELPED_BYTES = 1 << 30
"""Below this size of a file, a second thread helps SQLite to sort, which takes two more runs in memory. Measured
with 1.1 million rows: 3.5 s instead of 4.8 s to read them in order, and 3 MB more memory."""

_LARGE_BYTES = 128 << 20
"""The size of a file with about 300,000 rows."""


class SqliteSource:
    """A SQLite database file, in WAL mode or not. Raises `SourceError` if the URL names no file."""

    in_process = True

    def __init__(self, url: DatabaseURL, options: SourceOptions) -> None:
        if url.path is None:
            raise SourceError("The URL names no file.", hint="Give sqlite:///path/to/file.db.")
        self.path = Path(os.path.abspath(url.path))
        self.database = published_name(url, os.environ)
        self.identity = xxhash.xxh3_64_hexdigest(b"sqlite:" + os.fsencode(os.path.realpath(self.path)))
        self._private = options.state
        self._tables = options.tables
        self._shared = options.shared
        self._computed_by_application: tuple[str, ...] = ()
        self._marks = CommitMarks(self.path)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SqliteSnapshot]:
        """Copy the file, open the copy and unlink it. The copy vanishes with its last descriptor.

        If it is shared, it keeps its name until no other process will open it. After a kill, the next start
        removes it.

        Raises `SourceError`, and `PublishError` if the state directory cannot be written to.
        """
        copy = self._private / f"copy-{secrets.token_hex(8)}.sqlite3"
        async with contextlib.AsyncExitStack() as stack:
            notes = PageNotes(self._private)
            stack.push_async_callback(in_thread, notes.close)
            stack.callback(copy.unlink, missing_ok=True)
            given_up = threading.Event()
            stack.push(self._left)
            await in_stoppable_thread(given_up, self._copy, copy, notes, given_up)
            taken_at = datetime.now(UTC)
            descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
            # In a thread: closing the last descriptor frees the cached pages of the file, 0.1 s for 400 MB.
            stack.push_async_callback(in_thread, os.close, descriptor)
            engine = copy_engine(copy)
            stack.push_async_callback(engine.dispose)
            direct = sqlite3.connect(f"{file_uri(copy)}?mode=ro&immutable=1", uri=True, check_same_thread=False)
            stack.callback(direct.close)
            session = await stack.enter_async_context(AsyncSession(engine))
            stack.enter_context(interruptible(direct.interrupt))
            snapshot = await self._opened(session, copy, (descriptor, direct, notes), taken_at)
            stack.enter_context(interruptible(await snapshot.interrupt()))
            stack.push_async_callback(snapshot.aclose)
            yield snapshot

    async def _opened(
        self,
        session: AsyncSession,
        copy: Path,
        pages: tuple[int, sqlite3.Connection, PageNotes],
        taken_at: datetime,
    ) -> SqliteSnapshot:
        """Let every connection open the copy, unlink it unless it is shared, and read its declarations.

        Raises `SourceError`.
        """
        descriptor, direct, notes = pages
        try:
            size_bytes = os.fstat(descriptor).st_size
            connection = await set_up(session, helped=size_bytes < _HELPED_BYTES)
            encoding = (await connection.exec_driver_sql("PRAGMA encoding")).scalar_one()
            direct.execute("SELECT 1 FROM sqlite_master").fetchone()
            if not self._shared:
                copy.unlink()
            declared = await connection.run_sync(read_catalog)
            gate = await gate_of(session)
            catalog = await connection.run_sync(with_queries, gate, declared.catalog, self._tables)
            self._computed_by_application = declared.computed_by_application
            changes = PageChanges(descriptor, direct, await connection.run_sync(read_roots), notes)
        except DBAPIError as error:
            raise explain(error.orig or error, self.path, self._private) from error
        except sqlite3.Error as error:
            raise explain(error, self.path, self._private) from error
        await in_thread(close_gate, gate, catalog, self._tables)
        collation = "BINARY"
        if encoding != "UTF-8":
            # BINARY compares the stored bytes, whose order in UTF-16 is not that of the code points.
            collation = CODE_POINT
        paths = (self.path, self._private)
        snapshot = SqliteSnapshot(session, changes, taken_at, catalog, collation, size_bytes, paths)
        if self._shared:
            read = gate.readable, gate.views
            snapshot.shared = SharedCopy(copy, self.path, taken_at, catalog, collation, size_bytes, *read)
        return snapshot

    def _copy(self, copy: Path, notes: PageNotes, given_up: threading.Event) -> None:
        status = self._check_file()
        refuse_to_leave_traces(self.path)
        self._marks.remember()
        copy_database(self.path, status, copy, notes, given_up)

    def _left(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._marks.forget()

    def _check_file(self) -> os.stat_result:
        """The status of the file. Raises `SourceError` where SQLite would say "unable to open database file"."""
        try:
            status = self.path.stat()
        except FileNotFoundError as error:
            raise SourceError(
                f"There is no database file {self.path}.",
                hint="Check the path of the database: autoexport never creates the file.",
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
                hint="Start the application once, or check the path of the database.",
            )
        return status

    def is_large(self) -> bool:
        """Whether the file is large."""
        try:
            return self.path.stat().st_size >= _LARGE_BYTES
        except OSError:
            return False

    def checks(self, interval_s: float, *, hooks: bool, wake: asyncio.Event | None = None) -> AsyncIterator[bool]:
        """Check by `stat`, sooner with file events, and never open the file."""
        self._marks.used = True
        return watch_file(
            self.path, interval_s, hooks=hooks, wake=wake or asyncio.Event(), unchanged=self._marks.unchanged
        )

    async def check_notes(self) -> list[str]:
        """Notes of `check` about the file, and about the last snapshot. Raises `SourceError`."""
        return await in_thread(check_notes, self.path, self._computed_by_application)

    async def aclose(self) -> None:
        """Do nothing: the source holds nothing between snapshots."""
