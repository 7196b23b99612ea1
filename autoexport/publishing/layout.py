"""Lays out a file from kept byte ranges, fresh bytes and the text between them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from autoexport.formats.contract import Format
from autoexport.model.blocks import BlockRecord, BlockRef, Part
from autoexport.model.tree import Tree
from autoexport.publishing.crc32 import combine


@dataclass(frozen=True, slots=True)
class Segment:
    """A byte range of the spool if `fresh`, else of the published file."""

    fresh: bool
    offset: int
    length: int


@dataclass(slots=True)
class Layout:
    """A file before it is written: its pieces in order, its length in bytes and its checksum.

    `offsets` has, for each block, its offset in the new file and its bytes in the source.
    """

    file_name: str
    pieces: list[bytes | Segment] = field(default_factory=list)
    length: int = 0
    crc: int = 0
    offsets: list[tuple[int, Part]] = field(default_factory=list)

    @property
    def kept_bytes(self) -> int:
        """The number of bytes that are copied from the published file."""
        return sum(piece.length for piece in self.pieces if isinstance(piece, Segment) and not piece.fresh)


def lay_out(output: Format, tree: Tree, records: Sequence[BlockRecord], part_index: int) -> Layout:
    """Lay out a file without I/O. `part_index` is the index of its part in each record."""
    layout = Layout(output.file_name)
    between: list[bytes] = []

    def flush() -> None:
        if between:
            layout.pieces.append(b"".join(between))
            between.clear()

    for piece in output.assemble(tree):
        if isinstance(piece, BlockRef):
            part = records[piece.block].parts[part_index]
            separator = b"".join(between)
            if not _extend_last(layout, part, separator, output.separator):
                flush()
                # Images without annotations have no bytes in annotations.csv, and no file to copy them from.
                if part.length:
                    layout.pieces.append(Segment(part.fresh, part.offset, part.length))
            between.clear()
            layout.offsets.append((layout.length, part))
            layout.crc = combine(layout.crc, part.crc, part.length)
            layout.length += part.length
        else:
            between.append(piece)
            layout.crc = zlib.crc32(piece, layout.crc)
            layout.length += len(piece)
    flush()
    return layout


def _extend_last(layout: Layout, part: Part, between: bytes, separator: bytes) -> bool:
    """Extend the last segment to this part, if they are neighbours in the source as in the new file."""
    last = layout.pieces[-1] if layout.pieces else None
    if not isinstance(last, Segment) or between != separator or last.fresh != part.fresh:
        return False
    if last.offset + last.length + len(separator) != part.offset:
        return False
    length = last.length + len(separator) + part.length
    layout.pieces[-1] = Segment(last.fresh, last.offset, length)
    return True
