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
from autoexport.publishing.pieces import Pieces, Segment

Records = Sequence[BlockRecord] | Mapping[int, BlockRecord]
"""Blocks by their index."""

_TEXT_BYTES = 64 << 10
"""As much text is held before it goes to the scratch file: that of a project may be a list of a million labels."""


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
