"""The program of the copying process: copies a SQLite file, and its log, into two descriptors.

python -I -S copy_worker.py FILE DEVICE INODE DESCRIPTOR DESCRIPTOR

It writes "ready" and waits for "go" or "go wal" on standard input. While it copies, it writes "copied" or "log
copied" with the number of bytes. At the end it writes "done", "full" (no room for the copy) or "failed" with a
reason. It takes no lock: its parent holds the bytes of the file still meanwhile (see `private_copy`).

It starts in a hundredth of a second because it imports next to nothing. So it must not import the package.
"""

from __future__ import annotations

import errno
import os
import sys
from _collections_abc import Iterator  # `collections.abc` would load `collections`

READY, COPIED, LOG_COPIED = "ready", "copied ", "log copied "
DONE, FULL, FAILED = "done", "full", "failed "
GO, GO_WAL = b"go\n", b"go wal\n"

_STEP_BYTES = 4 << 20
_BUFFER_BYTES = 1 << 20
_WAL_HEADER_BYTES = 32
_MOST_RESTARTS = 20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main() -> None:
    """Carry out one request."""
    path, *numbers = sys.argv[1:]
    device, inode, database, log = map(int, numbers)
    _write_line(READY)
    request = os.read(0, len(GO_WAL))
    if request not in (GO, GO_WAL):
        return  # The parent has ended, or no longer needs the copy.
    try:
        copy(path, database, (device, inode))
        if request == GO_WAL:
            copy_log(f"{path}-wal", log)
        if _identity(os.stat(path)) != (device, inode):
            raise OSError(errno.ESTALE, "another file has taken its place")
    except OSError as error:
        _write_line(FULL if error.errno in _NO_ROOM else f"{FAILED}{error.strerror}")
        return
    _write_line(DONE)


def copy(path: str, target: int, identity: tuple[int, int]) -> None:
    """Copy a whole file into an empty one.

    Raises `OSError`, also if the device and inode of the file are not those of `identity`.
    """
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(source)
        if _identity(status) != identity:
            raise OSError(errno.ESTALE, "another file has taken its place")
        for copied in copy_bytes(source, target, status.st_size):
            _write_line(f"{COPIED}{copied}")
    finally:
        os.close(source)


def copy_log(path: str, target: int) -> None:
    """Copy a write-ahead log at its present length, and again if it started over meanwhile. Raises `OSError`."""
    for _ in range(_MOST_RESTARTS):
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            before = os.pread(source, _WAL_HEADER_BYTES, 0)
            os.ftruncate(target, 0)
            os.lseek(target, 0, os.SEEK_SET)
            for copied in copy_bytes(source, target, os.fstat(source).st_size):
                _write_line(f"{LOG_COPIED}{copied}")
            if os.pread(source, _WAL_HEADER_BYTES, 0) == before == os.pread(target, _WAL_HEADER_BYTES, 0):
                return
        finally:
            os.close(source)
    raise OSError(errno.EAGAIN, "the log starts over all the time")


def copy_bytes(source: int, target: int, size: int) -> Iterator[int]:
    """Copy `size` bytes, or up to the end, inside the kernel if possible. Yields the number of bytes copied so
    far.

    Raises `OSError`.
    """
    copied = 0
    if hasattr(os, "copy_file_range"):
        try:
            while copied < size and (step := os.copy_file_range(source, target, min(_STEP_BYTES, size - copied))):
                copied += step
                yield copied
        except OSError as error:
            if error.errno in _NO_ROOM or error.errno == errno.EIO:
                raise
    # The rest, or all of it: not every file system supports `copy_file_range`, and some copy nothing.
    while copied < size and (data := os.read(source, min(_BUFFER_BYTES, size - copied))):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
        copied += len(data)
        yield copied


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _write_line(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
