"""Renders the rows of a block to its bytes in every format, in a worker process or in a thread."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

from autoexport.model.blocks import BlockRows, Counts, pack
from autoexport.model.tree import DatasetNode, ProjectNode
from autoexport.values.block import RowMapping, render

if TYPE_CHECKING:
    from autoexport.formats.contract import Format


@dataclass(slots=True)
class Bodies:
    """A rendered piece of a block.

    `bodies` are its bytes, one for each format that has blocks. `ids` is the sum of the hashes of its image ids,
    modulo 2**64.
    """

    bodies: list[bytes]
    counts: Counts
    ids: int

    @property
    def shown(self) -> bool:
        """Whether the piece has bytes: it has none if no row of it is an image."""
        return self.counts.images > 0 or not self.counts.hidden_images


class BlockDigest:
    """Sums up the pieces of a block, as the ledger keeps it.

    In the spools the pieces are joined by the separators of the formats.
    """

    def __init__(self, outputs: Sequence[Format]) -> None:
        self._separators = [output.separator for output in outputs]
        self._begin()

    def _begin(self) -> None:
        self._counts, self._ids = Counts(), 0
        self._parts = [(0, 0)] * len(self._separators)

    def add(self, piece: Bodies) -> None:
        """Add the next piece of the block."""
        if not piece.shown:
            self._add_counts(piece)
            return
        for index, (body, separator) in enumerate(zip(piece.bodies, self._separators, strict=True)):
            length, crc = self._parts[index]
            if self._counts.images:
                length, crc = length + len(separator), zlib.crc32(separator, crc)
            self._parts[index] = length + len(body), zlib.crc32(body, crc)
        self._add_counts(piece)

    def _add_counts(self, piece: Bodies) -> None:
        self._counts.add(piece.counts)
        self._ids = (self._ids + piece.ids) % 2**64

    def end(self) -> tuple[bytes, int, list[tuple[int, int]]]:
        """The packed counts of the block, the sum of its image id hashes, and its parts; then begin another block.

        A part is the length and the CRC-32 of the block's bytes in a format.
        """
        ended = pack(self._counts), self._ids, self._parts
        self._begin()
        return ended


def bodies_of(
    rows: BlockRows, mapping: RowMapping, outputs: Sequence[Format], project: ProjectNode, dataset: DatasetNode
) -> Bodies:
    """Render a piece of a block in each of these formats; `mapping` says how boxes are read and written."""
    block = render(rows, mapping, project.facts)
    bodies = []
    for output in outputs:
        if not block.spans and block.counts.hidden_images:
            bodies.append(b"")
            continue
        body, guarded = output.block(block, project, dataset)
        bodies.append(body)
        block.counts.guarded += guarded
    hashes = (xxhash.xxh3_64_intdigest(str(key).encode("utf-8", "surrogateescape")) for key in rows.image_keys())
    return Bodies(bodies, block.counts, sum(hashes) % 2**64)
