"""How a daemon leaves the disk to the application: files that it replaced are given back in steps."""

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

_LARGE_BYTES = 32 << 20
_STEP_BYTES = 2 << 20
_STEP_S = 0.01


# Who has found the name of a file but not yet opened it is not seen by the kernel; that takes microseconds.
_FIRST_STEP_S = 5.0
_MOUNTS = "/proc/self/mountinfo"
_LATE_S = 0.002


class DiskThrottle:
    """For the exports of one daemon, one after the other.

    Where a file system tells the disk at once of what has become free, the program that commits next waits
    for all of it: 50 ms for 650 MB on ext4 with `discard`. There, a file that was replaced is cut off in
    steps, if the kernel says that nobody has it open and it has no other name.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    @contextmanager
    def replacing(self, target: Path) -> Iterator[None]:
        """Around the rename of a file to `target`; what it replaces is given back in a thread."""
        descriptor = _kept_open(target)
        try:
            yield
        finally:
            if descriptor is not None:
                thread = threading.Thread(
                    target=self._give_back, args=(descriptor,), name="autoexport: giving back", daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def finish(self) -> None:
        """What is still being given back is given back at once; blocking."""
        self._ended.set()
        while self._threads:
            self._threads.pop().join()
        self._ended.clear()

    def _give_back(self, descriptor: int) -> None:
        try:
            if self._ended.wait(_FIRST_STEP_S) or not _is_nobodys(descriptor):
                return
            left = os.fstat(descriptor).st_size
            while left and not self._ended.wait(_STEP_S):
                left = max(0, left - _STEP_BYTES)
                os.ftruncate(descriptor, left)
        except OSError:
            pass  # Closing it gives back the rest.
        finally:
            os.close(descriptor)


def _kept_open(target: Path) -> int | None:
    """A descriptor of a large file that is about to be replaced, if it is worth giving back in steps.

    It is opened by another name, which is gone again: who watches the directory would take what happens to the
    replaced file for something that happens to the new one, because the kernel reports it by the name it was
    opened with (inotify(7), IN_EXCL_UNLINK).
    """
    try:
        status = os.lstat(target)
        worth_it = stat.S_ISREG(status.st_mode) and status.st_size >= _LARGE_BYTES
        if not worth_it or not _tells_the_disk_at_once(status.st_dev):
            return None
        other = temp_beside(target)
        os.link(target, other, follow_symlinks=False)
        try:
            return os.open(other, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        finally:
            os.unlink(other)
    except OSError:
        return None


def _is_nobodys(descriptor: int) -> bool:
    """Whether a file has no name and is open nowhere else, not even mapped: then we are granted a write lease."""
    if os.fstat(descriptor).st_nlink:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def _tells_the_disk_at_once(device: int) -> bool:
    """Whether this is ext4, mounted with `discard`.

    A line is: identifiers, device, …, `-`, type, source, options (proc_pid_mountinfo(5)).
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError), open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            mount, _, filesystem = line.partition(" - ")
            if mount.split(" ")[2] == number:
                kind, _source, options = filesystem.split()
                return kind == "ext4" and "discard" in options.split(",")
    return False


class WriteThrottle:
    """Has the disk write a new file in small portions, one at a time, while it is being filled in order.

    A commit that meets a portion waits for no more than that portion. Measured on a disk of 1.5 GB/s, with an
    application that committed every 10 ms to SQLite in WAL mode (99th percentile alone: 0.9 ms), while 650 MB
    were written at 250 MB/s: 3.5 ms with portions of 1 MB, 1.0 to 1.7 ms with 64 to 256 KB. Two clients of
    PostgreSQL, as fast as they could, kept 0.78 of their rate beside 250 MB/s and 0.88 beside 150.
    """

    BYTES_PER_S = 150e6
    MOST_S = 5.0
    """About how long a file takes at most."""

    PORTION_BYTES = PORTION_BYTES

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
