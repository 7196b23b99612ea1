"""Keeps the pieces of a file, which are byte ranges and text, in order and in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from autoexport.model.scratch import Scratch

_TEXT, _KEPT, _FRESH = range(3)
"""The kinds of pieces; from `_FRESH` on, one for each part."""

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """A byte range of a spool if `fresh`, else of the published file.

    `part` is the index of the spool among those of the format.
    """

    fresh: bool
    offset: int
    length: int
    part: int = 0


def _kind(segment: Segment) -> int:
    return _FRESH + segment.part if segment.fresh else _KEPT


class Pieces:
    """The pieces of a file in order: text, which lies in `scratch`, and segments. Each takes 17 bytes."""

    def __init__(self, scratch: Scratch) -> None:
        self.kept_bytes = 0
        self._scratch = scratch
        self._kinds, self._offsets, self._lengths = array("B"), array("Q"), array("Q")
        self._sealed = 0

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator[bytes | Segment]:
        """Segments, and text in pieces of at most 1 MB."""
        for kind, offset, length in zip(self._kinds, self._offsets, self._lengths, strict=True):
            if kind != _TEXT:
                yield Segment(kind >= _FRESH, offset, length, max(kind - _FRESH, 0))
                continue
            for begun in range(0, length, _READ_BYTES):
                yield self._scratch.read(offset + begun, min(_READ_BYTES, length - begun))

    def text(self, begin: int, end: int) -> bytes:
        """The text of the pieces from `begin` to before `end`, without the segments."""
        texts = (index for index in range(begin, end) if self._kinds[index] == _TEXT)
        return b"".join(self._scratch.read(self._offsets[index], self._lengths[index]) for index in texts)

    def add_text(self, text: bytes) -> None:
        """Add text, which joins text before it that is not sealed."""
        offset = self._scratch.append(text)
        joins = len(self) > self._sealed and self._kinds[-1] == _TEXT
        if joins and self._offsets[-1] + self._lengths[-1] == offset:
            self._lengths[-1] += len(text)
        else:
            self._add(_TEXT, offset, len(text))

    def seal(self) -> int:
        """Let nothing more join the pieces so far; returns their number."""
        self._sealed = len(self)
        return self._sealed

    def add_segment(self, segment: Segment) -> None:
        """Add a segment."""
        self._add(_kind(segment), segment.offset, segment.length)

    def extend_segment(self, segment: Segment, between: int) -> bool:
        """Extend the last segment over this one if it follows in the same source after `between` bytes."""
        if not self._kinds or self._kinds[-1] != _kind(segment):
            return False
        if self._offsets[-1] + self._lengths[-1] + between != segment.offset:
            return False
        self._lengths[-1] += between + segment.length
        if not segment.fresh:
            self.kept_bytes += between + segment.length
        return True

    def extend(self, other: Pieces, begin: int, end: int) -> None:
        """Add the pieces of another list, with the same scratch, from `begin` to before `end`."""
        self._kinds += other._kinds[begin:end]
        self._offsets += other._offsets[begin:end]
        self._lengths += other._lengths[begin:end]
        self.kept_bytes += sum(
            other._lengths[index] for index in range(begin, end) if other._kinds[index] == _KEPT
        )

    def _add(self, kind: int, offset: int, length: int) -> None:
        self._kinds.append(kind)
        self._offsets.append(offset)
        self._lengths.append(length)
        if kind == _KEPT:
            self.kept_bytes += length
