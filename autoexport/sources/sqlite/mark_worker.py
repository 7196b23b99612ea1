"""The program of the process that reads the marks of a SQLite file: they differ after each commit.

It prints one line for each part. A file that is missing, or that holds nothing, counts as empty. The parts are:

- the header of the database, whose change counter each commit in a rollback journal raises
  (https://www.sqlite.org/fileformat2.html, section 1.3.7)
- the header of the log, and both copies of that of the wal-index, which each commit to the log rewrites when it
  becomes visible (https://www.sqlite.org/walformat.html, section 2.1)
"""

from __future__ import annotations

import os
import sys

_HEADER_BYTES, _WAL_HEADER_BYTES, _INDEX_HEADER_BYTES = 100, 32, 96


def main() -> None:
    """Print the marks of the file that the argument names. Raises `OSError` if one cannot be read."""
    path = sys.argv[1]
    parts = [_beginning(path, _HEADER_BYTES), _beginning(f"{path}-wal", _WAL_HEADER_BYTES)]
    # Without a log, the index says nothing: a reader may have made it.
    parts.append(_beginning(f"{path}-shm", _INDEX_HEADER_BYTES) if parts[1] else b"")
    os.write(1, b"".join(part.hex().encode() + b"\n" for part in parts))


def _beginning(path: str, length: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(descriptor, length, 0)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
