"""The copying process: copies a SQLite file, and its log, into two descriptors.

python -I -S sqlite_copy_worker.py FILE DEVICE INODE DESCRIPTOR DESCRIPTOR

Says "ready", waits for "go" or "go wal" on standard input, says "at" with the number of bytes that are copied, and
in the end "done", "full" (no room for the copy) or "failed" with a reason. It takes no lock: whoever says "go"
holds the bytes of the file with that device and inode still meanwhile (see `sqlite_copy`).
It starts in a hundredth of a second because it imports next to nothing, so it must not import the package.
"""

from __future__ import annotations

import errno
import os
import sys
from _collections_abc import Iterator  # `collections.abc` would load `collections`

READY, AT, LOG_AT, DONE, FULL, FAILED = "ready", "at ", "log at ", "done", "full", "failed "
GO, GO_WAL = b"go\n", b"go wal\n"

_STEP_BYTES = 4 << 20
_BUFFER_BYTES = 1 << 20
_WAL_HEADER_BYTES = 32
_MOST_RESTARTS = 20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main() -> None:
    """Serve one request."""
    path, *numbers = sys.argv[1:]
    device, inode, database, log = map(int, numbers)
    _say(READY)
    request = os.read(0, len(GO_WAL))
    if request not in (GO, GO_WAL):
        return  # The parent has ended, or needs no copy any more.
    try:
        copy(path, database, (device, inode))
        if request == GO_WAL:
            copy_log(f"{path}-wal", log)
        if _identity(os.stat(path)) != (device, inode):
            raise OSError(errno.ESTALE, "another file has taken its place")
    except OSError as error:
        _say(FULL if error.errno in _NO_ROOM else f"{FAILED}{error.strerror}")
        return
    _say(DONE)


def copy(path: str, target: int, identity: tuple[int, int]) -> None:
    """Copy a whole file into an empty one. Raises `OSError`, also if it is not the file with that identity."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(source)
        if _identity(status) != identity:
            raise OSError(errno.ESTALE, "another file has taken its place")
        for done in copy_bytes(source, target, status.st_size):
            _say(f"{AT}{done}")
    finally:
        os.close(source)


def copy_log(path: str, target: int) -> None:
    """Copy a write-ahead log as long as it is now, again if it started over meanwhile. Raises `OSError`."""
    for _ in range(_MOST_RESTARTS):
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            before = os.pread(source, _WAL_HEADER_BYTES, 0)
            os.ftruncate(target, 0)
            os.lseek(target, 0, os.SEEK_SET)
            for done in copy_bytes(source, target, os.fstat(source).st_size):
                _say(f"{LOG_AT}{done}")
            if os.pread(source, _WAL_HEADER_BYTES, 0) == before == os.pread(target, _WAL_HEADER_BYTES, 0):
                return
        finally:
            os.close(source)
    raise OSError(errno.EAGAIN, "the log starts over all the time")


def copy_bytes(source: int, target: int, size: int) -> Iterator[int]:
    """Copy so many bytes, or to the end, inside the kernel where it can be; yields how many are copied.

    Raises `OSError`.
    """
    done = 0
    if hasattr(os, "copy_file_range"):
        try:
            while done < size and (step := os.copy_file_range(source, target, min(_STEP_BYTES, size - done))):
                done += step
                yield done
        except OSError as error:
            if error.errno in _NO_ROOM or error.errno == errno.EIO:
                raise
    # The rest, or all of it: not every file system can be asked for the above, and some answer with nothing.
    while done < size and (data := os.read(source, min(_BUFFER_BYTES, size - done))):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
        done += len(data)
        yield done


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _say(words: str) -> None:
    os.write(1, f"{words}\n".encode())


if __name__ == "__main__":
    main()
