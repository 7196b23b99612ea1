"""How a published file is recognised as the one that was written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """How a published file is recognised as the one that was written."""

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
        """As `of`, of a file that is open."""
        return cls._of(os.fstat(descriptor), crc)

    @classmethod
    def _of(cls, status: os.stat_result, crc: int) -> FileIdentity:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, crc)
