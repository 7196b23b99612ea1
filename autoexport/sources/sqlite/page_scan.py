"""Hashes every page of a private copy, and notes the first bytes, which tell its kind.

Scanning reads the whole file, so it takes place during the copy, in the process that waits for the copy anyway.
"Format" is the SQLite document "Database File Format" (sqlite.org/fileformat2.html), cited by section.
"""

from __future__ import annotations

import os
import secrets
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from xxhash import xxh3_64_intdigest

from autoexport.runtime.files import WORKING_FILES, create_nameless, disk_errors_explained, write_all
from autoexport.sources.sqlite.file_format import malformed, page_bytes_of

_READ_BYTES = 1 << 20
_WORD_BYTES = 8
_NOTE_BYTES = 2 * _WORD_BYTES
_NOTES_AT_ONCE = 4096
_CLOSED = -1


class PageNotes:
    """The 64-bit xxh3 hash of every page, and its first 8 bytes.

    The first bytes tell type and number of cells of a b-tree page (Format 1.6), or the next page of an overflow
    chain (Format 1.7). The notes are in a file without a name: in memory, those on 2 GB of pages took 8 MB in
    every export. Every method raises `PublishError` if the file cannot be written or read.
    """

    def __init__(self, directory: Path) -> None:
        self.count = 0
        self.complete = False
        self._directory = directory
        self._fd: int | None = None

    def close(self) -> None:
        """Close the file. Afterwards nothing can be noted or read."""
        if self._fd not in (None, _CLOSED):
            os.close(self._fd)
        self._fd = _CLOSED

    def _file(self) -> int:
        # Not in the constructor, which runs on the event loop: the disk may be slow.
        if self._fd is None:
            self._fd = create_nameless(self._directory / f"pages-{secrets.token_hex(8)}")
        return self._fd

    def append(self, heads: memoryview, hashes: list[int]) -> None:
        """Note the next pages: their first bytes, as words in the byte order of the machine, and their hashes."""
        notes = array("Q", bytes(_NOTE_BYTES * len(hashes)))
        notes[::2] = array("Q", heads.tobytes())
        notes[1::2] = array("Q", hashes)
        with disk_errors_explained(WORKING_FILES):
            os.lseek(self._file(), _NOTE_BYTES * self.count, os.SEEK_SET)
            write_all(self._file(), notes.tobytes())
        self.count += len(hashes)

    def replace(self, index: int, head: bytes, digest: int) -> None:
        """Note a page again; `index` counts from 0."""
        with disk_errors_explained(WORKING_FILES):
            os.pwrite(self._file(), head + array("Q", [digest]).tobytes(), _NOTE_BYTES * index)

    def heads(self) -> Iterator[bytes]:
        """The first bytes of all pages, concatenated, some thousands at a time."""
        for start in range(0, self.count, _NOTES_AT_ONCE):
            yield self._read(start, start + _NOTES_AT_ONCE)[::2].tobytes()

    def hashes(self, start: int, end: int) -> bytes:
        """The hashes of the pages from `start` to `end`, counted from 0, as words in the machine's byte order."""
        return self._read(start, end)[1::2].tobytes()

    def _read(self, start: int, end: int) -> array[int]:
        length = max(0, min(end, self.count) - start)
        with disk_errors_explained(WORKING_FILES):
            return array("Q", os.pread(self._file(), _NOTE_BYTES * length, _NOTE_BYTES * start))


class PageScan:
    """Takes notes on the pages of a copy, from the first one on."""

    def __init__(self, fd: int, notes: PageNotes) -> None:
        self._fd = fd
        self._notes = notes
        self._notes.count, self._notes.complete = 0, False
        self._page_bytes = 0
        self._view = memoryview(bytearray(_READ_BYTES))

    def advance(self, end_bytes: int) -> bool:
        """Scan up to a megabyte of the whole pages before an offset. Returns whether there were any.

        Raises `OSError`, `PublishError`, and `SourceError` if the file is shorter or has no SQLite header.
        """
        if not self._page_bytes:
            if end_bytes < 100:
                return False
            self._page_bytes = page_bytes_of(os.pread(self._fd, 100, 0))
        page_bytes = self._page_bytes
        start = self._notes.count * page_bytes
        length = min(end_bytes - start, _READ_BYTES) // page_bytes * page_bytes
        if length <= 0:
            return False
        view = self._read(start, length)
        self._notes.append(
            view.cast("Q")[:: page_bytes // _WORD_BYTES],
            [xxh3_64_intdigest(view[page : page + page_bytes]) for page in range(0, length, page_bytes)],
        )
        return True

    def finish(self, changed: Iterable[int] = ()) -> None:
        """Scan the rest of the file, and the `changed` pages, numbered from 1, again. Raises as `advance`."""
        size_bytes = os.fstat(self._fd).st_size
        while self.advance(size_bytes):
            pass
        if self._page_bytes:
            self._notes.count = count = size_bytes // self._page_bytes
            for number in changed:
                if 0 < number <= count:
                    page = self._read((number - 1) * self._page_bytes, self._page_bytes)
                    self._notes.replace(number - 1, page[:_WORD_BYTES].tobytes(), xxh3_64_intdigest(page))
        self._notes.complete = True

    def _read(self, start: int, length: int) -> memoryview:
        view = self._view[:length]
        if os.preadv(self._fd, [view], start) != length:
            raise malformed(f"there is no page {start // self._page_bytes + 1}")
        return view
