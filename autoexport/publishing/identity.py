"""Identifies a published file by its status and its checksum."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """The status of a published file, by which it is recognised later; any write to the file changes it.

    `size` is in bytes. `crc` is the CRC-32 of the contents as they were written; it is not read from the file.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    crc: int

    @classmethod
    def of(cls, path: Path, crc: int) -> FileIdentity:
        """The identity of a file as it is now. Raises `OSError`."""
        return cls._of(path.stat(), crc)

    @classmethod
    def of_open(cls, descriptor: int, crc: int) -> FileIdentity:
        """The identity of an open file. Raises `OSError`."""
        return cls._of(os.fstat(descriptor), crc)

    @classmethod
    def _of(cls, status: os.stat_result, crc: int) -> FileIdentity:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, crc)
