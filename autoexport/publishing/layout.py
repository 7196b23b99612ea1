"""Lays out a file from kept byte ranges, fresh bytes and the text between them."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from autoexport.formats.contract import Format, PublishedFile, SectionFormat
from autoexport.model.blocks import BlockRecord, BlockRef, Guarded, SectionRef
from autoexport.model.scratch import MemoryScratch, Scratch
from autoexport.model.sections import SectionPlace
from autoexport.model.tree import Section, Tree
from autoexport.publishing.crc32 import combine

Records = Sequence[BlockRecord] | Mapping[int, BlockRecord]
"""Blocks by their index."""

_TEXT, _KEPT, _FRESH = range(3)
"""The kinds of pieces; from `_FRESH` on, one for each part."""

_READ_BYTES = 1 << 20
_TEXT_BYTES = 64 << 10
"""As much text is held before it goes to the scratch file: that of a project may be a list of a million labels."""


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


@dataclass(slots=True)
class Layout:
    """A file before it is written: its pieces in order, its length in bytes and its checksum.

    `sections` are the places of its sections by index. `blocks` and `offsets` are the indexes and offsets of the
    blocks that are in no section, and `parts` says which part of each. `guarded` is the number of guarded cells in
    the sections. `output` is the index of its format, and `first` that of the format's first part in each record.
    `rows` is the number of its rows.
    """

    file_name: str
    pieces: Pieces = field(default_factory=lambda: Pieces(MemoryScratch()))
    length: int = 0
    crc: int = 0
    guarded: int = 0
    sections: dict[int, SectionPlace] = field(default_factory=dict)
    blocks: array[int] = field(default_factory=lambda: array("L"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    parts: array[int] = field(default_factory=lambda: array("B"))
    output: int = 0
    first: int = 0
    rows: int = 0

    @property
    def kept_bytes(self) -> int:
        """The number of bytes that are copied from the published file."""
        return self.pieces.kept_bytes


class LayoutWriter:
    """Adds text and segments to pieces, and sums up length and checksum."""

    def __init__(self, pieces: Pieces, separator: bytes) -> None:
        self.length = self.crc = 0
        self._pieces = pieces
        self._separator = separator
        self._between: list[bytes] = []
        self._between_bytes = 0
        self._follows = False

    def text(self, text: bytes) -> None:
        self._between.append(text)
        self._between_bytes += len(text)
        self.crc = zlib.crc32(text, self.crc)
        self.length += len(text)
        if self._between_bytes >= _TEXT_BYTES:
            self.flush()

    def segment(self, segment: Segment, crc: int) -> None:
        if not segment.length:
            # Images without annotations have no bytes in annotations.csv, and no file to copy them from.
            return
        between = b"".join(self._between)
        joins = self._follows and between == self._separator
        if joins and self._pieces.extend_segment(segment, len(between)):
            self._between.clear()
            self._between_bytes = 0
        else:
            self.flush()
            self._pieces.add_segment(segment)
        self._follows = True
        self.crc = combine(self.crc, crc, segment.length)
        self.length += segment.length

    def pieces(self, other: Pieces, begin: int, end: int, place: SectionPlace) -> None:
        self.flush()
        self._pieces.extend(other, begin, end)
        self.crc = combine(self.crc, place.crc, place.length)
        self.length += place.length

    def flush(self) -> None:
        if self._between:
            self._pieces.add_text(b"".join(self._between))
            self._between.clear()
            self._between_bytes = 0
        self._follows = False


class SectionTexts:
    """The text of each section in one file: fresh, or where it stands in the published file.

    `index` is where the parts of the file are in each record.
    """

    def __init__(self, output: SectionFormat, separator: bytes, index: int, scratch: Scratch) -> None:
        self._output = output
        self._separator = separator
        self._index = index
        self._pieces = Pieces(scratch)
        self._kept: dict[int, SectionPlace] = {}
        self._fresh: dict[int, tuple[int, int, SectionPlace]] = {}

    def keep(self, section: int, place: SectionPlace) -> None:
        """Keep a section as it stands in the published file."""
        self._kept[section] = place

    def add(self, index: int, section: Section, records: Records) -> tuple[list[int], SectionPlace]:
        """Lay out a section; the offset in it of each block in order, and its place, at the offset 0.

        The text refers to blocks by `records`.
        """
        begun, guarded, offsets = self._pieces.seal(), 0, []
        writer = LayoutWriter(self._pieces, self._separator)
        for piece in self._output.section(section):
            if isinstance(piece, BlockRef):
                part = records[piece.block].parts[self._index]
                offsets.append(writer.length)
                writer.segment(Segment(part.fresh, part.offset, part.length), part.crc)
            elif isinstance(piece, Guarded):
                guarded += piece.cells
            else:
                writer.text(piece)
        writer.flush()
        place = SectionPlace(0, writer.length, writer.crc, guarded)
        self._fresh[index] = begun, len(self._pieces), place
        return offsets, place

    def fresh(self) -> Iterator[bytes]:
        """The text of each fresh section, without its blocks."""
        for begin, end, *_ in self._fresh.values():
            yield self._pieces.text(begin, end)

    def write(self, index: int, writer: LayoutWriter) -> SectionPlace:
        """Add a section to a file; its place there."""
        offset = writer.length
        if index in self._kept:
            known = self._kept[index]
            if known.length:
                writer.segment(Segment(False, known.offset, known.length), known.crc)
        else:
            begin, end, known = self._fresh[index]
            if known.length:
                writer.pieces(self._pieces, begin, end, known)
        return SectionPlace(offset, known.length, known.crc, known.guarded)


def lay_out(
    output: Format,
    tree: Tree,
    records: Records,
    index: int,
    texts: SectionTexts | None = None,
    scratch: Scratch | None = None,
) -> Layout:
    """Lay out a file; `index` is where its parts are in each record. Reads and writes nothing but `scratch`."""
    layout = Layout(output.file_name, Pieces(scratch or MemoryScratch()), first=index, rows=output.rows(tree))
    writer = LayoutWriter(layout.pieces, output.separator)
    for piece in output.assemble(tree):
        if isinstance(piece, BlockRef):
            part = records[piece.block].parts[index]
            layout.blocks.append(piece.block)
            layout.parts.append(0)
            layout.offsets.append(writer.length)
            writer.segment(Segment(part.fresh, part.offset, part.length), part.crc)
        elif isinstance(piece, SectionRef):
            assert texts is not None  # noqa: S101 - a tree with sections has their texts
            place = texts.write(piece.section, writer)
            layout.sections[piece.section] = place
            layout.guarded += place.guarded
        else:
            writer.text(piece)
    writer.flush()
    layout.length, layout.crc = writer.length, writer.crc
    return layout


def lay_out_file(
    file: PublishedFile, separator: bytes, records: Records, first: int, scratch: Scratch | None = None
) -> Layout:
    """Lay out one file of a `FileSetFormat`; `first` is where the parts of the format begin in each record."""
    layout = Layout(file.name, Pieces(scratch or MemoryScratch()), first=first, rows=file.rows)
    writer = LayoutWriter(layout.pieces, separator)
    follows = False
    for piece in file.text:
        if not isinstance(piece, BlockRef):
            writer.text(piece)
            follows = False
            continue
        part = records[piece.block].parts[first + piece.part]
        if part.length:
            if follows:
                writer.text(separator)
            layout.blocks.append(piece.block)
            layout.parts.append(piece.part)
            layout.offsets.append(writer.length)
            writer.segment(Segment(part.fresh, part.offset, part.length, piece.part), part.crc)
            follows = True
    writer.flush()
    layout.length, layout.crc = writer.length, writer.crc
    return layout
