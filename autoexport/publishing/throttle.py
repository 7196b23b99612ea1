"""Writes and deletes large files slowly, so that the application's own writes to the disk do not wait.

`WriteThrottle` slows down the writing of new files, `DiskThrottle` the deletion of the files they replace.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autoexport.runtime.files import PAGE_BYTES, PORTION_BYTES, begin_writing_out, temp_beside
from autoexport.runtime.waits import spared

_LARGE_BYTES = 32 << 20
_STEP_BYTES = 2 << 20
_STEP_S = 0.01
_FIRST_STEP_S = 5.0
"""Delay before a file is truncated. A program that has looked up the name but not opened the file yet, which
takes microseconds, is invisible to the kernel."""

_MOUNTS = "/proc/self/mountinfo"
_LATE_S = 0.002
"""How far a writer may fall behind its schedule and still catch up."""


class DiskThrottle:
    """Frees the space of replaced files in steps, for the exports of one daemon.

    On a file system that discards freed blocks at once, the next commit waits for the whole discard: 50 ms for
    650 MB on ext4 with `discard`. There, a replaced file is truncated step by step. The kernel first has to
    confirm that no process has it open and that it has no other name.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    @contextmanager
    def replacing(self, target: Path) -> Iterator[None]:
        """Wrap the rename of a file to `target`; a thread then frees the space of the file it replaced."""
        descriptor = _open_replaced(target)
        try:
            yield
        finally:
            if descriptor is not None:
                thread = threading.Thread(
                    target=self._free, args=(descriptor,), name="autoexport: freeing space", daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def finish(self) -> None:
        """Free all remaining space at once and end the threads; blocking."""
        self._ended.set()
        while self._threads:
            self._threads.pop().join()
        self._ended.clear()

    def _free(self, descriptor: int) -> None:
        try:
            if self._ended.wait(_FIRST_STEP_S) or not _is_unused(descriptor):
                return
            size = os.fstat(descriptor).st_size
            while size and not self._ended.wait(_STEP_S):
                size = max(0, size - _STEP_BYTES)
                os.ftruncate(descriptor, size)
        except OSError:
            pass  # Closing the descriptor frees the rest.
        finally:
            os.close(descriptor)


def _open_replaced(target: Path) -> int | None:
    """Open a file that is about to be replaced; None if freeing it in steps is not worth it.

    The file is opened by a temporary second name. The kernel reports the truncation to watchers of the directory
    under the name that was opened (inotify(7), IN_EXCL_UNLINK). Under its own name, they would take it for a
    change of the new file.
    """
    try:
        status = os.lstat(target)
        worth_it = stat.S_ISREG(status.st_mode) and status.st_size >= _LARGE_BYTES
        if not worth_it or not _discards_at_once(status.st_dev):
            return None
        other = temp_beside(target)
        os.link(target, other, follow_symlinks=False)
        try:
            return os.open(other, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        finally:
            os.unlink(other)
    except OSError:
        return None


def _is_unused(descriptor: int) -> bool:
    """Whether a file has no name, is open nowhere else and is not mapped: only then is a write lease granted."""
    if os.fstat(descriptor).st_nlink:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def _discards_at_once(device: int) -> bool:
    """Whether the device is ext4, mounted with `discard`.

    A line of the mount table is: identifiers, device, …, `-`, type, source, options (proc_pid_mountinfo(5)).
    """
    device_numbers = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError), open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            mount, _, filesystem = line.partition(" - ")
            if mount.split(" ")[2] == device_numbers:
                kind, _source, options = filesystem.split()
                return kind == "ext4" and "discard" in options.split(",")
    return False


class WriteThrottle:
    """Limits the rate at which a new file is written, and flushes it in portions of `PORTION_BYTES`.

    A commit of the application that meets a portion waits for no more than that portion. Measured on a disk of
    1.5 GB/s, with an application that committed every 10 ms to SQLite in WAL mode (99th percentile alone:
    0.9 ms), while 650 MB were written at 250 MB/s: 3.5 ms with portions of 1 MB, 1.0 to 1.7 ms with 64 to
    256 KB. Two PostgreSQL clients at full speed kept 0.78 of their rate beside 250 MB/s and 0.88 beside 150.
    """

    BYTES_PER_S = 150e6
    MOST_S = 5.0
    """The longest time that the throttle aims at for one file: it writes larger files faster."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._bytes_per_s = max(self.BYTES_PER_S, size_bytes / self.MOST_S)
        self._due = time.monotonic()
        self._written = self._flushed = 0

    def read_from(self, descriptor: int) -> None:
        """Turn off read-ahead for a file to copy from, so that reads of the disk are small as well."""
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def keep(self, written_bytes: int) -> None:
        """Count bytes that were just written, and sleep until they are due.

        Time lost to a slow disk is not made up for by writing faster.
        """
        self._written += written_bytes
        if self._written - self._flushed >= PORTION_BYTES:
            whole_pages = self._written // PAGE_BYTES * PAGE_BYTES
            begin_writing_out(self._descriptor, self._flushed, whole_pages)
            self._flushed = whole_pages
        now = time.monotonic()
        self._due = max(self._due, now - _LATE_S) + written_bytes / self._bytes_per_s
        if self._due > now:
            time.sleep(self._due - now)
            spared(self._due - now)
