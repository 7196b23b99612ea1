"""The copying process: copies a SQLite file, and its log, into two descriptors.

python -I -S sqlite_copy_worker.py FILE DESCRIPTOR DESCRIPTOR

Says "ready", waits for "go" or "go wal" on standard input, says "at" with the number of bytes that are copied, and
in the end "done", "full" (no room for the copy) or "failed" with a reason. It takes no lock: whoever says "go"
holds the bytes still meanwhile (see `sqlite_copy`).
It starts in a hundredth of a second because it imports next to nothing, so it must not import the package.
"""

from __future__ import annotations

import errno
import os
import sys
from _collections_abc import Iterator  # `collections.abc` would load `collections`

READY, AT, DONE, FULL, FAILED = "ready", "at ", "done", "full", "failed "
GO, GO_WAL = b"go\n", b"go wal\n"

_STEP_BYTES = 4 << 20
_BUFFER_BYTES = 1 << 20
_WAL_HEADER_BYTES = 32
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main() -> None:
    """Serve one request."""
    path, *numbers = sys.argv[1:]
    database, log = map(int, numbers)
    _say(READY)
    request = os.read(0, len(GO_WAL))
    if request not in (GO, GO_WAL):
        return  # The parent has ended, or needs no copy any more.
    try:
        copy(path, database)
        if request == GO_WAL:
            copy_log(f"{path}-wal", log)
    except OSError as error:
        _say(FULL if error.errno in _NO_ROOM else f"{FAILED}{error.strerror}")
        return
    _say(DONE)


def copy(path: str, target: int) -> None:
    """Copy a whole file into an empty one. Raises `OSError`."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for done in copy_bytes(source, target):
            _say(f"{AT}{done}")
    finally:
        os.close(source)


def copy_log(path: str, target: int) -> None:
    """Copy a write-ahead log, again if it started over meanwhile. Raises `OSError`."""
    while True:
        try:
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            before = os.pread(source, _WAL_HEADER_BYTES, 0)
            os.ftruncate(target, 0)
            os.lseek(target, 0, os.SEEK_SET)
            for _ in copy_bytes(source, target):
                pass
            if os.pread(source, _WAL_HEADER_BYTES, 0) == before == os.pread(target, _WAL_HEADER_BYTES, 0):
                return
        finally:
            os.close(source)


def copy_bytes(source: int, target: int) -> Iterator[int]:
    """Copy to the end of the source, inside the kernel where it can be; yields how many bytes are copied.

    Raises `OSError`.
    """
    done = 0
    if hasattr(os, "copy_file_range"):
        try:
            while step := os.copy_file_range(source, target, _STEP_BYTES):
                done += step
                yield done
        except OSError as error:
            if error.errno in _NO_ROOM or error.errno == errno.EIO:
                raise
    # The rest, or all of it: not every file system can be asked for the above, and some answer with nothing.
    while data := os.read(source, _BUFFER_BYTES):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
        done += len(data)
        yield done


def _say(words: str) -> None:
    os.write(1, f"{words}\n".encode())


if __name__ == "__main__":
    main()
