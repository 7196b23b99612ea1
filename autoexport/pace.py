"""How fast a file is written beside an application, which has to wait for the disk as well."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress

PAGE_BYTES = 4096
_LATE_S = 0.002

_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def begin_writing_out(descriptor: int, start: int, end: int) -> None:
    """Have the disk begin on these bytes of a file, without waiting for it; `fsync` tells if that fails.

    By sync_file_range(2), which leaves the pages in memory, where the next export finds what it keeps; where
    that is unknown, by saying that they are not needed. A repeated `fdatasync` would do as well, but for the
    commits to the journal that the writer then waits for.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, start, end - start, _SYNC_FILE_RANGE_WRITE)
    elif hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, start, end - start, os.POSIX_FADV_DONTNEED)


class Pace:
    """Has the disk write a new file in small portions, one at a time, while it is being filled in order.

    A commit that meets a portion waits for no more than that portion. Measured on a disk of 1.5 GB/s, with an
    application that committed every 10 ms to SQLite in WAL mode (99th percentile alone: 0.9 ms), while 650 MB
    were written at 250 MB/s: 3.5 ms with portions of 1 MB, 1.0 to 1.7 ms with 64 to 256 KB. Two clients of
    PostgreSQL, as fast as they could, kept 0.78 of their rate beside 250 MB/s and 0.88 beside 150.
    """

    BYTES_PER_S = 150e6
    MOST_S = 5.0
    """About how long a file takes at most."""

    PORTION_BYTES = 256 << 10

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._bytes_per_s = max(self.BYTES_PER_S, size_bytes / self.MOST_S)
        self._due = time.monotonic()
        self._written = self._begun = 0

    def read_from(self, descriptor: int) -> None:
        """What is written comes from there: if it has to be read from the disk, then in portions as well."""
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def keep(self, written_bytes: int) -> None:
        """So much more is written; sleeps until it should be. What the disk kept it waiting is not made up for."""
        self._written += written_bytes
        if self._written - self._begun >= self.PORTION_BYTES:
            whole = self._written // PAGE_BYTES * PAGE_BYTES
            begin_writing_out(self._descriptor, self._begun, whole)
            self._begun = whole
        now = time.monotonic()
        self._due = max(self._due, now - _LATE_S) + written_bytes / self._bytes_per_s
        if self._due > now:
            time.sleep(self._due - now)
