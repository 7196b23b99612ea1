"""Reads a position, which comes in pieces, in amounts of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain


class Pieces:
    """A stream of pieces of bytes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._buffer = bytearray()

    def take(self, size_bytes: int) -> bytes:
        """The next `size_bytes` bytes; fewer at the end."""
        while len(self._buffer) < size_bytes and (piece := next(self._pieces, None)) is not None:
            self._buffer += piece
        taken = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        return taken

    def rest(self) -> Iterator[bytes]:
        """The pieces after the last byte that was taken."""
        return chain([bytes(self._buffer)], self._pieces)
