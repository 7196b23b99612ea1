"""A private copy of a SQLite file: its bytes as they are while a read transaction holds them still.

The backup API moves a file page by page, through two page caches. Where the bytes of the file cannot change they
can be copied by the kernel instead, in a quarter of the time, and so they keep a writer out for a quarter of it.
Another process does it (`sqlite_copy_worker`), never this one: a descriptor that is closed here would drop the
POSIX locks of an application in the same process (https://www.sqlite.org/howtocorrupt.html, section 2.2).

Why the bytes are those of one committed state:

- *Rollback journal.* Nothing is written to the file without an EXCLUSIVE lock, which nobody gets while our
  transaction holds a SHARED one (https://www.sqlite.org/lockingv3.html, section 3). What a crash left half-written
  is rolled back before we get ours, or we do not get it.
- *WAL* (https://www.sqlite.org/walformat.html, section 2.3). Our transaction holds a read lock. If that is not the
  first, a checkpoint moves frames into the file only up to our end mark, and the log does not start over: file and
  log together hold every frame that was moved meanwhile. If it is the first, the file is complete, nothing is
  moved into it, and the log may start over: then its header changes, and it is copied again. Of the copied log
  SQLite's own recovery takes what is committed and leaves what is cut short.

So the copy may hold a commit that came while it was made: what counts is the copy, and nothing else is asked.
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
from autoexport.runtime.files import create_new, explain_os_error
from autoexport.runtime.logs import get_logger
from autoexport.sources.sqlite.copy_process import START_S, started
from autoexport.sources.sqlite.copy_worker import DONE, FAILED, FULL, GO, GO_WAL, READY
from autoexport.sources.sqlite.errors import explain, no_room, too_slow
from autoexport.sources.sqlite.file_format import page_bytes_of
from autoexport.sources.sqlite.page_scan import PageNotes, PageScan

DEADLINE_S = 60.0
"""How long a copy may wait for a writer that holds the file."""

PROCESS_FROM_BYTES = 16 << 20
"""Size from which a process of its own is worth its start, about 12 ms of a core."""

HOLD_S, HOLD_S_PER_GB = 2.0, 2.0
"""How long a copy may keep writers out that have no log to write to. It usually takes a fifth of that; where the
disk of the copy is slower, the file is copied in steps, and writers have their turn between them."""

SLOW_DEADLINE_S = 600.0
"""How long a copy in steps may take. Each commit meanwhile has it begin anew."""

_STEP_PAGES = 1000
_BUSY_S = 0.05
_PAUSE_S = 0.005
log = get_logger()


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection to the application's file.

    `mode=ro` and never `immutable`: the application may be writing. `cache=private`: with a cache that is shared
    with an application in the same process, we would see what it has not committed.
    """
    return sqlite3.connect(
        f"{file_uri(path)}?mode=ro&cache=private", uri=True, timeout=_BUSY_S, isolation_level=None
    )


def copy_database(
    path: Path, status: os.stat_result, copy: Path, notes: PageNotes, given_up: threading.Event
) -> None:
    """Make the private copy, mode 0600; blocking. Raises `SourceError`, and `PublishError` where the private
    directory cannot be written to; then nothing is left of it.

    `status` tells which file it is, and was taken before: a file that is renamed over it is noticed by that. It
    waits up to a minute for a writer, and no longer once `given_up` is set. The `notes` on its pages are complete
    if they could be taken meanwhile.
    """
    try:
        _Copying(path, copy, notes, given_up).run(status)
    except sqlite3.Error as error:
        raise explain(error, path, copy.parent) from error
    except OSError as error:
        raise explain_os_error(error, copy) from error


class _Copying:
    """One copy being made."""

    def __init__(self, path: Path, copy: Path, notes: PageNotes, given_up: threading.Event) -> None:
        self._path = path
        self._copy = copy
        self._log = copy.with_name(copy.name + "-wal")
        self._notes = notes
        self._given_up = given_up
        self._deadline = time.monotonic() + DEADLINE_S
        self._in_steps = False

    def run(self, status: os.stat_result) -> None:
        """By another process, or else by the backup API; if neither can, nothing is left."""
        try:
            with contextlib.closing(open_read_only(self._path)) as source:
                if status.st_size >= PROCESS_FROM_BYTES:
                    if self._by_process(source, status):
                        return
                    self._remove()
                    self._deadline = time.monotonic() + (SLOW_DEADLINE_S if self._in_steps else DEADLINE_S)
                self._by_backup(source)
        except BaseException:
            self._remove()
            raise

    def _remove(self) -> None:
        """Remove what there is of the copy."""
        for place in (self._copy, self._log):
            with contextlib.suppress(OSError):
                place.unlink()

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
        # It is called after the last step as well, which may have taken its time.
        if status == sqlite3.SQLITE_DONE:
            return
        if self._in_steps and time.monotonic() > self._deadline:
            raise too_slow(self._path, self._copy.parent)
        self._refuse_to_wait()
        if status == sqlite3.SQLITE_OK:
            time.sleep(_PAUSE_S)  # The lock is free now.

    # --- another process ---------------------------------------------------------------------------------

    def _by_process(self, source: sqlite3.Connection, status: os.stat_result) -> bool:
        """False if it could not be done like this."""
        with contextlib.ExitStack() as stack:
            targets = []
            for place in (self._copy, self._log):
                targets.append(create_new(place, 0o600))
                stack.callback(os.close, targets[-1])
            worker = stack.enter_context(started(self._path, status, targets, self._given_up))
            if worker is None or worker.answer(START_S) != READY:
                log.debug("copy.no_process")
                return False
            scan = PageScan(targets[0], self._notes)
            mode = self._begin(source)
            try:
                if mode == "wal" and not _sees_index(self._path):
                    return False
                limit_s = math.inf if mode == "wal" else HOLD_S + HOLD_S_PER_GB * status.st_size / 1e9
                answer = worker.copy(GO_WAL if mode == "wal" else GO, scan, limit_s)
            except TimeoutError:
                log.debug("copy.too_slow")
                self._in_steps = mode != "wal"
                return False
            finally:
                source.execute("ROLLBACK")
            if answer == FULL:
                raise no_room(self._path, self._copy.parent)
            if answer != DONE:
                log.debug("copy.process_failed", reason=answer.removeprefix(FAILED))
                return False
            moved = _pages_of_log(targets[1], os.fstat(targets[0]).st_size)
            if mode == "wal":
                self._take_in_log()
            self._log.unlink(missing_ok=True)
            if not _cut_what_is_beyond(targets[0]):
                return False
            scan.finish(moved)
            return True

    def _begin(self, source: sqlite3.Connection) -> str:
        """Begin the read transaction; the journal mode."""
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
                time.sleep(_PAUSE_S)  # It has waited already, unless SQLite saw no use in it.

    def _take_in_log(self) -> None:
        """Let SQLite recover the copied log and move it into the copied file."""
        with contextlib.closing(sqlite3.connect(self._copy, isolation_level=None)) as copied:
            # The wal-index is then memory of this connection, not a file.
            copied.execute("PRAGMA locking_mode=EXCLUSIVE")
            copied.execute("PRAGMA synchronous=OFF")
            (mode,) = copied.execute("PRAGMA journal_mode=DELETE").fetchone()
            if mode != "delete":
                raise sqlite3.OperationalError(f"the copied log could not be taken in ({mode})")


def _sees_index(path: Path) -> bool:
    """Whether the wal-index can be read: else the read lock is in memory of our connection only."""
    kinds = {"effective_ids": True} if os.access in os.supports_effective_ids else {}
    return os.access(f"{os.path.realpath(path)}-shm", os.R_OK, **kinds)


def _pages_of_log(descriptor: int, size_bytes: int) -> Iterator[int]:
    """The numbers of the pages that a log has, whether they count or not, ascending; in a byte of memory a page.
    Left out is what a file of this size cannot come to have by it: every page beyond its end is in the log.

    A header of 32 bytes with the size of a page at 8, then for every page 24 bytes, which begin with its number
    (https://www.sqlite.org/fileformat2.html, section 4.1).
    """
    header = os.pread(descriptor, 32, 0)
    page_bytes = unpack_from(">I", header, 8)[0] if len(header) == 32 else 0
    if page_bytes < 512:
        return iter(())
    frames = range(32, os.fstat(descriptor).st_size - 24, 24 + page_bytes)
    there = bytearray(size_bytes // page_bytes + len(frames) + 1)
    for at in frames:
        number = int.from_bytes(os.pread(descriptor, 4, at), "big")
        if number < len(there):
            there[number] = 1
    return compress(count(), there)


def _cut_what_is_beyond(descriptor: int) -> bool:
    """Cut a file to the pages that its header counts, and say whether it has them all.

    It may be longer where room was reserved.

    The number of pages is at 28, in force if the counters at 24 and 92 are equal; the size of a page is at 16
    (https://www.sqlite.org/fileformat2.html, sections 1.3.2 and 1.3.7).
    """
    header = os.pread(descriptor, 100, 0)
    page_bytes = page_bytes_of(header)
    pages = unpack_from(">I", header, 28)[0] if header[24:28] == header[92:96] else 0
    size_bytes = os.fstat(descriptor).st_size
    wanted = pages * page_bytes or size_bytes - size_bytes % page_bytes
    if wanted < size_bytes:
        os.ftruncate(descriptor, wanted)
    return wanted <= size_bytes
