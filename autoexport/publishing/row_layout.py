"""Lays out the file of a format that cuts its rows by a rule of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from autoexport.formats.contract import Copied, Readable, RowFormat, RowRange
from autoexport.model.scratch import Scratch
from autoexport.publishing.layout import Layout, LayoutWriter, Pieces, Segment


def lay_out_rows(
    output: RowFormat, rows: Layout, fresh: Readable, published: Readable, scratch: Scratch
) -> Layout:
    """Lay out the file of a `RowFormat`, from the layout of its rows, in which every length is a number of rows.

    The places of sections and blocks stay numbers of rows. `fresh` has the rendered blocks.
    """
    layout = replace(rows, pieces=Pieces(scratch))
    writer = LayoutWriter(layout.pieces, b"")
    for piece in output.groups(_row_ranges(rows.pieces), fresh, published):
        if isinstance(piece, Copied):
            writer.segment(Segment(False, piece.offset, piece.length), piece.crc)
        else:
            writer.text(piece)
    writer.flush()
    layout.length, layout.crc = writer.length, writer.crc
    return layout


def _row_ranges(pieces: Pieces) -> Iterator[RowRange]:
    for piece in pieces:
        if isinstance(piece, Segment):
            yield piece.fresh, piece.offset, piece.length
