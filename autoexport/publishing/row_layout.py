"""Lays out the file of a format that cuts its rows by a rule of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from autoexport.formats.contract import RowRange
from autoexport.model.scratch import MemoryScratch
from autoexport.publishing.layout import Layout, LayoutWriter
from autoexport.publishing.pieces import Pieces, Segment


def row_ranges(rows: Layout) -> Iterator[RowRange]:
    """The rows of a file in order, from their layout, in which every length is a number of rows."""
    for piece in rows.pieces:
        if isinstance(piece, Segment):
            yield piece.fresh, piece.offset, piece.length


def lay_out_rows(rows: Layout, pieces: Iterable[tuple[bool, int, int, int]], part: int) -> Layout:
    """Lay out the file of these rows from its pieces in order: copied or not, offset, length and CRC-32.

    A piece that is not copied is in the file that takes the place of the spool `part`. The places of sections and
    blocks stay numbers of rows.
    """
    layout = replace(rows, pieces=Pieces(MemoryScratch()))
    writer = LayoutWriter(layout.pieces, b"")
    for copied, offset, length, crc in pieces:
        writer.segment(Segment(not copied, offset, length, part), crc)
    writer.flush()
    layout.length, layout.crc = writer.length, writer.crc
    return layout
