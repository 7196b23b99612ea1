"""One pass over the pages of a private copy, as they come: the hash of each, and the bytes that tell its kind.

The pass reads the whole file, so it is made while the file is being copied, by who waits for that anyway.
"Format" is the SQLite document "Database File Format" (sqlite.org/fileformat2.html), cited by section.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable

from xxhash import xxh3_64_intdigest

from autoexport.sources.sqlite_file import malformed, page_bytes_of

HEAD_BYTES = 8
"""Of every page: type and number of cells of a b-tree page (Format 1.6), or the next page of an overflow chain
(Format 1.7)."""

_READ_BYTES = 1 << 20


class PageScan:
    """Hashes and first bytes of the pages up to some place; 16 bytes of memory per page.

    `hashes` are of 64 bits, by xxh3; `heads` are the first 8 bytes of each page, one behind the other.
    """

    def __init__(self, fd: int) -> None:
        self.hashes: array[int] = array("Q")
        self.heads = bytearray()
        self._fd = fd
        self._page_bytes = 0
        self._view = memoryview(bytearray(_READ_BYTES))

    def advance(self, end_bytes: int) -> bool:
        """Take in about a megabyte of what lies before an offset; whether there was any.

        Raises `OSError`, and `SourceError` where there is less.
        """
        if not self._page_bytes:
            if end_bytes < 100:
                return False
            self._page_bytes = page_bytes_of(os.pread(self._fd, 100, 0))
        done = len(self.hashes) * self._page_bytes
        wanted = min(end_bytes - done, _READ_BYTES) // self._page_bytes * self._page_bytes
        if wanted <= 0:
            return False
        view = self._read(done, wanted)
        self.hashes.extend(
            [xxh3_64_intdigest(view[at : at + self._page_bytes]) for at in range(0, wanted, self._page_bytes)]
        )
        self.heads += view.cast("Q")[:: self._page_bytes // HEAD_BYTES].tobytes()
        return True

    def finish(self, changed: Iterable[int] = ()) -> None:
        """Take in the rest of the file, and these pages again, numbered from 1. Raises as `advance`."""
        size_bytes = os.fstat(self._fd).st_size
        while self.advance(size_bytes):
            pass
        if not self._page_bytes:
            return
        count = size_bytes // self._page_bytes
        del self.hashes[count:], self.heads[HEAD_BYTES * count :]
        for number in changed:
            if 0 < number <= count:
                page = self._read((number - 1) * self._page_bytes, self._page_bytes)
                self.hashes[number - 1] = xxh3_64_intdigest(page)
                self.heads[HEAD_BYTES * (number - 1) : HEAD_BYTES * number] = page[:HEAD_BYTES]

    def _read(self, start: int, length: int) -> memoryview:
        view = self._view[:length]
        if os.preadv(self._fd, [view], start) != length:
            raise malformed(f"there is no page {start // self._page_bytes + 1}")
        return view
