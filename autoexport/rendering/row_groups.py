"""Writes the file of a format that cuts its rows by a rule of its own, from the rows in the spool."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from autoexport.formats.contract import Copied, RowFormat, RowRange
from autoexport.runtime.files import write_all
from autoexport.runtime.steps import stepped

Piece = tuple[bool, int, int, int]
"""A part of the file: whether it is copied from the published file, not the target; offset, length, CRC-32."""


class OpenFile:
    """A file that a format reads; without a descriptor, an empty one."""

    def __init__(self, descriptor: int | None) -> None:
        self.length = 0 if descriptor is None else os.fstat(descriptor).st_size
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> bytes:
        """Read from the file. Raises EOFError if it is too short."""
        data = os.pread(self._descriptor, length, offset) if self._descriptor is not None else b""
        if len(data) < length:
            raise EOFError
        return data


@dataclass(frozen=True, slots=True)
class RowFiles:
    """The descriptors of the rendered rows, of the published file if there is one, and of the new bytes."""

    spool: int
    published: int | None
    target: int


def write_groups(output: RowFormat, ranges: Iterable[RowRange], files: RowFiles) -> list[Piece]:
    """Write the new bytes of a file to its target. Returns the whole file in order. Raises OSError, EOFError."""
    pieces: list[Piece] = []
    written = 0
    for piece in output.groups(ranges, OpenFile(files.spool), OpenFile(files.published)):
        if isinstance(piece, Copied):
            pieces.append((True, piece.offset, piece.length, piece.crc))
        else:
            write_all(files.target, piece)
            pieces.append((False, written, len(piece), zlib.crc32(piece)))
            written += len(piece)
        stepped()
    return pieces
