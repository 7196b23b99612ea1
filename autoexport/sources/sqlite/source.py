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
import stat
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from autoexport.config.address import DatabaseURL
from autoexport.config.database_url import published_name
from autoexport.errors import EmptyDatabase, SourceError
from autoexport.runtime.loading import load
from autoexport.runtime.threads import in_stoppable_thread, in_thread
from autoexport.sources.contract import SourceOptions
from autoexport.sources.sqlite.check_notes import check_notes
from autoexport.sources.sqlite.commit_marks import CommitMarks
from autoexport.sources.sqlite.openable import refuse_to_leave_traces
from autoexport.sources.sqlite.page_scan import PageNotes
from autoexport.sources.sqlite.private_copy import copy_database
from autoexport.sources.sqlite.watch import watch_file

if TYPE_CHECKING:
    from autoexport.sources.sqlite.snapshot import SqliteSnapshot

_READING = "autoexport.sources.sqlite.reading"
"""The module that reads a copy, and loads SQLAlchemy."""

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
            copying = in_stoppable_thread(given_up, self._copy, copy, notes, given_up)
            # SQLAlchemy loads while another process copies, and not on the event loop.
            await asyncio.gather(copying, asyncio.to_thread(load, _READING))
            from autoexport.sources.sqlite.reading import CopyReading

            reading = CopyReading(copy, self.path, notes, datetime.now(UTC))
            snapshot = await stack.enter_async_context(reading.snapshot(self._tables, shared=self._shared))
            self._computed_by_application = reading.computed_by_application
            yield snapshot

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
