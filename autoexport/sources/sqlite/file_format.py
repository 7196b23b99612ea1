"""Reads the pages of a quiescent SQLite file: leaves, interior pages and free pages.

"Format" is the SQLite document "Database File Format" (sqlite.org/fileformat2.html), cited by section. Nothing
here writes. Never use it on the application's own file: closing a descriptor of that would drop the application's
locks (sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from struct import unpack_from

from autoexport.errors import SourceError

INTERIOR, LEAF = 5, 13  # Format 1.6: first byte of the pages of a table b-tree


def malformed(what: str) -> SourceError:
    """The error for a file that breaks the format; `what` says how."""
    return SourceError(
        f"the database is malformed: {what}",
        hint="Run `PRAGMA integrity_check` on the database; restore it from a backup if that fails.",
    )


def page_bytes_of(header: bytes) -> int:
    """The size of a page, from the first 100 bytes of a file. Raises `SourceError` if they are not SQLite's."""
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):  # Format 1.3.1
        raise malformed("it has no SQLite header")
    (size,) = unpack_from(">H", header, 16)  # Format 1.3.2: a power of two from 512 on; 1 stands for 65536
    page_bytes = 65536 if size == 1 else int(size)
    if page_bytes < 512 or page_bytes & (page_bytes - 1):
        raise malformed(f"its pages cannot have {size} bytes")
    return page_bytes


class DatabaseFile:
    """The pages of a database file, numbered from 1 (Format 1.2). The caller owns the descriptor.

    `layout` is page size in bytes, reserved bytes per page, schema format and text encoding. Every method raises
    `SourceError` if the file is not well formed, and `OSError` if it cannot be read.
    """

    def __init__(self, fd: int) -> None:
        header = os.pread(fd, 100, 0)
        self.page_bytes = page_bytes_of(header)
        (schema_format,) = unpack_from(">I", header, 44)  # Format 1.3.10
        (encoding,) = unpack_from(">I", header, 56)  # Format 1.3.13
        self.layout = (self.page_bytes, header[20], schema_format, encoding)  # 20: Format 1.3.4
        (self._first_trunk,) = unpack_from(">I", header, 32)  # Format 1.3.8
        size_bytes = os.fstat(fd).st_size
        if size_bytes % self.page_bytes:
            raise malformed(f"{size_bytes} bytes are no whole number of pages of {self.page_bytes} bytes")
        self.page_count = size_bytes // self.page_bytes
        self._fd = fd

    def page(self, number: int) -> bytes:
        """The bytes of a page."""
        page = os.pread(self._fd, self.page_bytes, (number - 1) * self.page_bytes) if number > 0 else b""
        if len(page) != self.page_bytes:
            raise malformed(f"there is no page {number}")
        return page

    def children(self, number: int) -> list[int]:
        """The pages below an interior page of a table, in key order."""
        page = self.page(number)
        if page[0] != INTERIOR:
            raise malformed(f"page {number} is not the interior page it should be")
        try:
            # Format 1.6: number of cells at 3, right-most child at 8, offsets of the cells from 12; a cell
            # begins with its left child.
            (cells,) = unpack_from(">H", page, 3)
            offsets = unpack_from(f">{cells}H", page, 12)
            below: list[int] = [unpack_from(">I", page, offset)[0] for offset in offsets]
            below += unpack_from(">I", page, 8)
        except struct.error as exc:
            raise malformed(f"page {number} is damaged") from exc
        return below

    def leaves(self, root: int) -> Iterator[list[int]]:
        """The leaves of a table in key order, in groups below one interior page.

        All leaves of a b-tree have the same depth, so the leaves themselves need not be read.
        """
        depth, first = 0, root
        while self.page(first)[0] == INTERIOR and depth < 64:
            depth, first = depth + 1, self.children(first)[0]
        yield from self._below(root, depth)

    def _below(self, number: int, depth: int) -> Iterator[list[int]]:
        if depth == 0:
            yield [number]
        elif depth == 1:
            yield self.children(number)
        else:
            for child in self.children(number):
                yield from self._below(child, depth - 1)

    def rowids(self, leaf: int) -> tuple[int, int] | None:
        """The first and the last rowid of a leaf; None if it has no rows."""
        page = self.page(leaf)
        if page[0] != LEAF:
            raise malformed(f"page {leaf} is not the leaf it should be")
        (cells,) = unpack_from(">H", page, 3)  # Format 1.6: number of cells at 3, offsets of the cells from 8
        if not cells:
            return None
        try:
            first, last = (_rowid(page, unpack_from(">H", page, 8 + 2 * cell)[0]) for cell in (0, cells - 1))
        except (struct.error, IndexError) as exc:
            raise malformed(f"page {leaf} is damaged") from exc
        return first, last

    def freelist(self) -> Iterator[Sequence[int]]:
        """The unused pages, in groups: each trunk page with the pages that it lists."""
        trunk = self._first_trunk
        while trunk:
            page = self.page(trunk)
            following, listed = unpack_from(">II", page, 0)  # Format 1.5: next trunk, length of the list
            if listed > len(page) // 4 - 2:
                raise malformed(f"page {trunk} of the freelist is damaged")
            yield (trunk, *unpack_from(f">{listed}I", page, 8))
            trunk = following


def _rowid(page: bytes, cell: int) -> int:
    """The rowid of the leaf cell at an offset: its second varint, after the length of the payload (Format 1.6)."""
    return _varint(page, _varint(page, cell)[1])[0]


def _varint(page: bytes, start: int) -> tuple[int, int]:
    """A signed varint, and the offset after it: seven bits a byte, eight in the ninth (Format 1.6)."""
    value = 0
    for offset in range(start, start + 8):
        value = value << 7 | page[offset] & 0x7F
        if page[offset] < 0x80:
            return value, offset + 1
    value = value << 8 | page[start + 8]
    return value - (1 << 64) if value >> 63 else value, start + 9
