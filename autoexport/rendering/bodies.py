"""Renders the rows of a block to its bytes in every format, in a worker process or in a thread."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import xxhash

from autoexport.formats.contract import BatchFormat
from autoexport.model.blocks import Block, BlockRows, Counts, pack
from autoexport.model.catalog import Key
from autoexport.model.tree import DatasetNode, ProjectNode
from autoexport.values.block import RowMapping, render_together

if TYPE_CHECKING:
    from autoexport.formats.contract import Format, Owner


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


Digest = tuple[bytes, int, list[tuple[int, int]]]
"""What `BlockDigest.end` returns."""


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
        bodies = piece.bodies if piece.shown else ()
        for index, (body, separator) in enumerate(zip(bodies, self._separators, strict=piece.shown)):
            length, crc = self._parts[index]
            if self._counts.images:
                length, crc = length + len(separator), zlib.crc32(separator, crc)
            self._parts[index] = length + len(body), zlib.crc32(body, crc)
        self._counts.add(piece.counts)
        self._ids = (self._ids + piece.ids) % 2**64

    def written(self, pieces: Sequence[Bodies], *, ends: bool) -> list[Bodies]:
        """Those of the next pieces that are appended to the spools. A piece without images is not, unless its
        whole block has none. `ends` as in `add_all`, which comes afterwards."""
        images, chosen = self._counts.images, []
        for index, piece in enumerate(pieces, 1):
            last = ends or index < len(pieces)
            images += piece.counts.images
            if piece.shown or (last and not images):
                chosen.append(piece)
            images = 0 if last else images
        return chosen

    def add_all(self, pieces: Sequence[Bodies], *, ends: bool) -> list[Digest]:
        """Add pieces of blocks that follow one another; the digests of those that end, all but the last one
        unless `ends`."""
        ended = []
        for index, piece in enumerate(pieces, 1):
            self.add(piece)
            if ends or index < len(pieces):
                ended.append(self.end())
        return ended

    def end(self) -> Digest:
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
    (made,) = all_bodies_of(rows, mapping, outputs, [(project, dataset)])
    return made


def all_bodies_of(
    rows: BlockRows, mapping: RowMapping, outputs: Sequence[Format], owners: Sequence[Owner]
) -> list[Bodies]:
    """Render each block that has rows here; `owners` are their projects and datasets."""
    if mapping.expand and rows.members:
        # Each project reads its documents in its own way.
        alone = zip(rows.apart(), owners, strict=True)
        return [made for part, owner in alone for made in all_bodies_of(part, mapping, outputs, [owner])]
    block, counts = render_together(rows, mapping, owners[0][0].facts)
    lengths = [length for _, length in rows.blocks()] if not mapping.expand else [len(block.spans)]
    if not block.spans:
        return [Bodies([b""] * len(outputs), counts[0], _ids(rows.image_keys()))]
    bodies = []
    for output in outputs:
        made, guarded = _blocks(output, block, lengths, owners)
        bodies.append(made)
        for own, cells in zip(counts, guarded, strict=True):
            own.guarded += cells
    hashes = [_hash(key) for key in rows.image_keys()]
    ends = list(accumulate(length for _, length in rows.blocks()))
    ids = [sum(hashes[begun:end]) % 2**64 for begun, end in zip([0, *ends], ends, strict=False)]
    by_block: list[list[bytes]] = list(map(list, zip(*bodies, strict=True))) if bodies else [[] for _ in lengths]
    return [Bodies(*made) for made in zip(by_block, counts, ids, strict=True)]


def _blocks(
    output: Format, block: Block, lengths: Sequence[int], owners: Sequence[Owner]
) -> tuple[list[bytes], list[int]]:
    """The bytes and the guarded cells of each block, all at once if the format can do that."""
    if isinstance(output, BatchFormat):
        return output.blocks(block, lengths, owners)
    bodies, guarded = [], []
    image = annotation = 0
    for length, owner in zip(lengths, owners, strict=True):
        spans = block.spans[image : image + length]
        images = {name: column[image : image + length] for name, column in block.images.items()}
        below = slice(annotation, annotation + sum(spans))
        annotations = {name: column[below] for name, column in block.annotations.items()}
        body, cells = output.block(Block(images, annotations, spans), *owner)
        bodies.append(body)
        guarded.append(cells)
        image, annotation = image + length, below.stop
    return bodies, guarded


def _ids(keys: Sequence[Key]) -> int:
    return sum(_hash(key) for key in keys) % 2**64


def _hash(key: Key) -> int:
    return xxhash.xxh3_64_intdigest(str(key).encode("utf-8", "surrogateescape"))
