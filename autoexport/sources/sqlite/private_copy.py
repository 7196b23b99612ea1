"""Copies a SQLite file privately: its bytes as a read transaction holds them still.

The backup API moves a file page by page, through two page caches. If the bytes of the file cannot change, the
kernel can copy them instead, in a quarter of the time. So a writer waits a quarter as long.

Another process copies (`copy_worker`), never this one. A descriptor that is closed here would drop the POSIX locks
of an application in the same process (https://www.sqlite.org/howtocorrupt.html, section 2.2).

Why the bytes are those of one committed state:

- *Rollback journal.* Writing to the file takes an EXCLUSIVE lock. No writer gets it while our transaction holds a
  SHARED one (https://www.sqlite.org/lockingv3.html, section 3). A transaction that a crash left half-written is
  rolled back before we get our lock, or we do not get it.
- *WAL* (https://www.sqlite.org/walformat.html, section 2.3). Our transaction holds a read lock. If that is not the
  first one, a checkpoint moves frames into the file only up to our end mark, and the log does not start over. File
  and log together then hold every frame that was moved meanwhile. If it is the first one, the file is complete and
  nothing is moved into it, but the log may start over. Then its header changes, and the log is copied again. From
  the copied log, SQLite's own recovery takes the committed transactions and drops an incomplete one.

So the copy may contain a commit that came while it was made. Everything else is read from the copy, which is
consistent in itself.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from itertools import compress, count
from pathlib import Path
from struct import unpack_from

from autoexport.config.database_url import file_uri
from autoexport.runtime.files import close_nameless, create_new, explain_os_error
from autoexport.runtime.logs import get_logger
from autoexport.runtime.waits import waited, waiting
from autoexport.sources.sqlite.copy_process import START_S, Worker, started
from autoexport.sources.sqlite.copy_worker import DONE, FAILED, FULL, GO, GO_WAL, READY
from autoexport.sources.sqlite.errors import explain, no_room, too_slow
from autoexport.sources.sqlite.file_format import page_bytes_of
from autoexport.sources.sqlite.page_scan import PageNotes, PageScan

DEADLINE_S = 60.0
"""How long a copy waits for a writer that holds the file."""

PROCESS_FROM_BYTES = 16 << 20
"""The smallest file that justifies starting a process, which takes about 12 ms of a core."""

HOLD_S, HOLD_S_PER_GB = 2.0, 2.0
"""How long a copy may keep out writers that use a rollback journal. It usually takes a fifth of that. On a slower
disk, the file is copied in steps, and writers have their turn between the steps."""

SLOW_DEADLINE_S = 600.0
"""How long a copy in steps may take. It starts over after each commit."""

_STEP_PAGES = 1000
_BUSY_S = 0.05
_PAUSE_S = 0.005
log = get_logger()


def open_read_only(path: Path) -> sqlite3.Connection:
    """Connect to the application's file. Raises `sqlite3.Error`."""
    # Never `immutable`: the application may be writing. In a cache that is shared with an application in the same
    # process, we would see changes that it has not committed.
    return sqlite3.connect(
        f"{file_uri(path)}?mode=ro&cache=private", uri=True, timeout=_BUSY_S, isolation_level=None
    )


def copy_database(
    path: Path, status: os.stat_result, copy: Path, notes: PageNotes, given_up: threading.Event
) -> None:
    """Make the private copy, with mode 0600; blocking.

    `status` identifies the file: the copying process notices if another file is renamed over it. Waits up to a
    minute for a writer, but not after `given_up` is set. The `notes` on the pages are complete if they could be
    taken during the copy.

    Raises `SourceError`, and `PublishError` if the private directory cannot be written to. Nothing is left then.
    """
    try:
        _Copying(path, copy, notes, given_up).run(status)
    except sqlite3.Error as error:
        raise explain(error, path, copy.parent) from error
    except OSError as error:
        raise explain_os_error(error, copy) from error


class _NotCopied(Exception):
    """The process could not make the copy; the message says why."""


class _Copying:
    """The making of one copy."""

    def __init__(self, path: Path, copy: Path, notes: PageNotes, given_up: threading.Event) -> None:
        self._path = path
        self._copy = copy
        self._log = copy.with_name(copy.name + "-wal")
        self._notes = notes
        self._given_up = given_up
        self._deadline = time.monotonic() + DEADLINE_S
        self._in_steps = False

    def run(self, status: os.stat_result) -> None:
        """Copy a large file by another process. If that fails, and for a small file, use the backup API."""
        try:
            with contextlib.closing(open_read_only(self._path)) as source:
                if status.st_size < PROCESS_FROM_BYTES or not self._tried_by_process(source, status):
                    self._by_backup(source)
        except BaseException:
            self._remove()
            raise

    def _remove(self) -> None:
        for path in (self._copy, self._log):
            with contextlib.suppress(OSError):
                path.unlink()

    def _refuse_to_wait(self) -> None:
        if time.monotonic() > self._deadline or self._given_up.is_set():
            raise sqlite3.OperationalError("database is locked")

    # --- the backup API ----------------------------------------------------------------------------------

    def _by_backup(self, source: sqlite3.Connection) -> None:
        os.close(create_new(self._copy, 0o600))
        with contextlib.closing(sqlite3.connect(self._copy, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous=OFF")
            target.execute("PRAGMA journal_mode=OFF")
            pages = _STEP_PAGES if self._in_steps else -1
            source.backup(target, pages=pages, progress=self._backed_up, sleep=_BUSY_S)

    def _backed_up(self, status: int, _remaining: int, _total: int) -> None:
        # Called after the last step as well, however long that took.
        if status == sqlite3.SQLITE_DONE:
            return
        if self._in_steps and time.monotonic() > self._deadline:
            raise too_slow(self._path, self._copy.parent)
        self._refuse_to_wait()
        if status != sqlite3.SQLITE_OK:
            waited(_BUSY_S)  # by the backup API, for a writer
        else:
            time.sleep(_PAUSE_S)  # The lock is free now: let a writer have it.

    # --- another process ---------------------------------------------------------------------------------

    def _tried_by_process(self, source: sqlite3.Connection, status: os.stat_result) -> bool:
        """Whether another process made the copy; if not, nothing is left of it."""
        try:
            self._by_process(source, status)
        except _NotCopied as error:
            log.debug("copy.process_failed", reason=str(error))
            self._remove()
            self._deadline = time.monotonic() + (SLOW_DEADLINE_S if self._in_steps else DEADLINE_S)
            return False
        return True

    def _by_process(self, source: sqlite3.Connection, status: os.stat_result) -> None:
        """Copy the bytes of one committed state and take notes on its pages. Raises `_NotCopied`."""
        with contextlib.ExitStack() as stack:
            targets = []
            for path in (self._copy, self._log):
                targets.append(create_new(path, 0o600))
                stack.callback(close_nameless if path is self._log else os.close, targets[-1])
            database, copied_log = targets
            worker = stack.enter_context(started(self._path, status, targets, self._given_up))
            if worker is None or worker.answer(START_S) != READY:
                raise _NotCopied("no process could be started")
            scan = PageScan(database, self._notes)
            mode = self._copy_bytes(source, worker, scan, status.st_size)
            logged = _pages_of_log(copied_log, os.fstat(database).st_size)
            if mode == "wal":
                self._absorb_log()
            self._log.unlink(missing_ok=True)
            if not _trim(database):
                raise _NotCopied("the copy has fewer pages than its header counts")
            scan.finish(logged)

    def _copy_bytes(self, source: sqlite3.Connection, worker: Worker, scan: PageScan, size_bytes: int) -> str:
        """Let the process copy while a read transaction holds the bytes still; the journal mode.

        Raises `_NotCopied`.
        """
        with waiting():
            mode = self._begin(source)
        try:
            if mode != "wal":
                answer = worker.copy(GO, scan, HOLD_S + HOLD_S_PER_GB * size_bytes / 1e9)
            elif _index_is_readable(self._path):
                answer = worker.copy(GO_WAL, scan, math.inf)
            else:
                # Without the wal-index, only our own connection would know of the read lock.
                raise _NotCopied("the wal-index cannot be read")
        except TimeoutError as error:
            self._in_steps = mode != "wal"
            raise _NotCopied("the process is too slow") from error
        finally:
            source.execute("ROLLBACK")
        if answer == FULL:
            raise no_room(self._path, self._copy.parent)
        if answer != DONE:
            raise _NotCopied(answer.removeprefix(FAILED) or "the process ended")
        return mode

    def _begin(self, source: sqlite3.Connection) -> str:
        """Begin the read transaction, and return the journal mode. Waits for a writer until the deadline."""
        while True:
            try:
                source.execute("BEGIN")
                source.execute("SELECT 1 FROM sqlite_master").fetchone()
                return str(source.execute("PRAGMA journal_mode").fetchone()[0])
            except sqlite3.OperationalError as error:
                if source.in_transaction:
                    source.execute("ROLLBACK")
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                self._refuse_to_wait()
                time.sleep(_PAUSE_S)  # SQLite has waited already, unless it saw no use in waiting.

    def _absorb_log(self) -> None:
        """Let SQLite recover the copied log and move it into the copied file. Raises `sqlite3.Error`."""
        with contextlib.closing(sqlite3.connect(self._copy, isolation_level=None)) as copied:
            # The wal-index then is in the memory of this connection, not in a file.
            copied.execute("PRAGMA locking_mode=EXCLUSIVE")
            copied.execute("PRAGMA synchronous=OFF")
            (mode,) = copied.execute("PRAGMA journal_mode=DELETE").fetchone()
            if mode != "delete":
                raise sqlite3.OperationalError(f"the copied log could not be moved into the copy ({mode})")


def _index_is_readable(path: Path) -> bool:
    """Whether this user may read the wal-index (`-shm`) of the database."""
    kinds = {"effective_ids": True} if os.access in os.supports_effective_ids else {}
    return os.access(f"{os.path.realpath(path)}-shm", os.R_OK, **kinds)


def _pages_of_log(descriptor: int, size_bytes: int) -> Iterator[int]:
    """The numbers of all pages in a log, committed or not, ascending; in one byte of memory a page.

    `size_bytes` is the size of the copied file. Pages that the file cannot have are left out: for every page
    beyond its end, the log has a frame.
    """
    # The header has 32 bytes, with the size of a page at 8. Before each page are 24 bytes, which begin with its
    # number (https://www.sqlite.org/fileformat2.html, section 4.1).
    header = os.pread(descriptor, 32, 0)
    page_bytes = unpack_from(">I", header, 8)[0] if len(header) == 32 else 0
    if page_bytes < 512:
        return iter(())
    frames = range(32, os.fstat(descriptor).st_size - 24, 24 + page_bytes)
    present = bytearray(size_bytes // page_bytes + len(frames) + 1)
    for offset in frames:
        page = int.from_bytes(os.pread(descriptor, 4, offset), "big")
        if page < len(present):
            present[page] = 1
    return compress(count(), present)


def _trim(descriptor: int) -> bool:
    """Cut off the bytes after the last page that the header counts. Returns whether no page is missing.

    A file may be longer than its pages if the application has reserved room.
    """
    # The number of pages is at 28, valid if the counters at 24 and 92 are equal
    # (https://www.sqlite.org/fileformat2.html, section 1.3.7).
    header = os.pread(descriptor, 100, 0)
    page_bytes = page_bytes_of(header)
    pages = unpack_from(">I", header, 28)[0] if header[24:28] == header[92:96] else 0
    size_bytes = os.fstat(descriptor).st_size
    wanted = pages * page_bytes or size_bytes - size_bytes % page_bytes
    if wanted < size_bytes:
        os.ftruncate(descriptor, wanted)
    return wanted <= size_bytes
