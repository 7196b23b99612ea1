"""Defines a place for bytes that an export needs again before it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

_PIECE_BYTES = 256 << 10


class Scratch(Protocol):
    """Bytes that are appended now and read later, in memory or in a file without a name."""

    def append(self, data: bytes) -> int:
        """Keep some bytes; the offset to read them from."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """The bytes that were appended there."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """Some of the bytes of a scratch."""

    scratch: Scratch
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes."""
        return self.scratch.read(self.offset, self.length)

    def pieces(self) -> Iterator[bytes]:
        """The bytes, at most 256 KB at a time."""
        for begun in range(0, self.length, _PIECE_BYTES):
            yield self.scratch.read(self.offset + begun, min(_PIECE_BYTES, self.length - begun))

    def split(self, separator: bytes) -> Iterator[bytes]:
        """The parts between separators, as `bytes.split` returns them."""
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(separator)
            yield from whole
        yield rest


class MemoryScratch:
    """Keeps the bytes in memory."""

    def __init__(self) -> None:
        self._data = bytearray()

    def append(self, data: bytes) -> int:
        """Append to the memory."""
        offset = len(self._data)
        self._data += data
        return offset

    def read(self, offset: int, length: int) -> bytes:
        """Copy from the memory."""
        return bytes(self._data[offset : offset + length])
