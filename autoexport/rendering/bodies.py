"""Renders the rows of a block to its bytes in every format, in a worker process or in a thread."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import xxhash

from autoexport.formats.contract import BatchFormat, FileSetFormat, RowFormat, part_count
from autoexport.model.blocks import Block, BlockRows, Counts, pack
from autoexport.model.catalog import Key
from autoexport.model.tree import DatasetNode, ProjectNode
from autoexport.values.block import RowMapping, render_together

if TYPE_CHECKING:
    from autoexport.formats.contract import Format, Owner


@dataclass(slots=True)
class Bodies:
    """A rendered piece of a block.

    `bodies` are its parts, those of each format that has blocks. `ids` is the sum of the hashes of its image ids,
    modulo 2**64.
    """

    bodies: list[bytes]
    counts: Counts
    ids: int


Digest = tuple[bytes, int, list[tuple[int, int]]]
"""What `BlockDigest.end` returns."""


class BlockDigest:
    """Sums up the pieces of a block, as the ledger keeps it.

    In the spools the pieces are joined by the separators of the formats.
    """

    def __init__(self, outputs: Sequence[Format]) -> None:
        self._separators = separators(outputs)
        self._row_formats = [
            output if isinstance(output, RowFormat) else None
            for output in outputs
            for _ in range(part_count(output))
        ]
        self._begin()

    def _begin(self) -> None:
        self._counts, self._ids = Counts(), 0
        self._parts = [(0, 0)] * len(self._separators)

    def add(self, piece: Bodies) -> None:
        """Add the next piece of the block."""
        for index, (body, separator) in enumerate(zip(piece.bodies, self._separators, strict=True)):
            length, crc = self._parts[index]
            if (rows := self._row_formats[index]) is not None:
                self._parts[index] = length + rows.measure(body), 0
                continue
            if length and body:
                length, crc = length + len(separator), zlib.crc32(separator, crc)
            self._parts[index] = length + len(body), zlib.crc32(body, crc)
        self._counts.add(piece.counts)
        self._ids = (self._ids + piece.ids) % 2**64

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


def separators(outputs: Sequence[Format]) -> list[bytes]:
    """The separator of each part of a block."""
    return [output.separator for output in outputs for _ in range(part_count(output))]


def joined(bodies: Iterable[bytes], separator: bytes) -> bytes:
    """Parts as a spool holds them: each that is not empty, with a separator behind it."""
    return separator.join([*filter(None, bodies), b""])


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
        return [Bodies([b""] * len(separators(outputs)), counts[0], _ids(rows.image_keys()))]
    bodies = []
    for output in outputs:
        if isinstance(output, FileSetFormat):
            bodies += _file_set_parts(output, block, lengths, owners, counts)
            continue
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
    for own, owner in zip(each_block(block, lengths), owners, strict=True):
        body, cells = output.block(own, *owner)
        bodies.append(body)
        guarded.append(cells)
    return bodies, guarded


def _file_set_parts(
    output: FileSetFormat, block: Block, lengths: Sequence[int], owners: Sequence[Owner], counts: Sequence[Counts]
) -> list[list[bytes]]:
    """For each part, the bytes of each block; the tallies are added to the counts."""
    made = []
    for own, owner, counted in zip(each_block(block, lengths), owners, counts, strict=True):
        parts, tallies = output.parts(own, *owner)
        made.append(parts)
        counted.tallies.update({name: count for name, count in tallies.items() if count})
    return list(map(list, zip(*made, strict=True)))


def each_block(block: Block, lengths: Sequence[int]) -> Iterator[Block]:
    """The blocks whose values a block holds, cut by their numbers of images."""
    if len(lengths) == 1:
        yield block
        return
    image = annotation = 0
    for length in lengths:
        spans = block.spans[image : image + length]
        images = {name: column[image : image + length] for name, column in block.images.items()}
        below = slice(annotation, annotation + sum(spans))
        annotations = {name: column[below] for name, column in block.annotations.items()}
        yield Block(images, annotations, spans)
        image, annotation = image + length, below.stop


def _ids(keys: Sequence[Key]) -> int:
    return sum(_hash(key) for key in keys) % 2**64


def _hash(key: Key) -> int:
    return xxhash.xxh3_64_intdigest(str(key).encode("utf-8", "surrogateescape"))
