"""Lays out the sections of the next generation, each once for all files, and records them for the ledger."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import orjson

from autoexport.formats.contract import Format, SectionFormat, part_count
from autoexport.model.blocks import BlockRecord, Part
from autoexport.model.scratch import Scratch, Stored
from autoexport.model.sections import BlockRecords, SectionPlace, SectionRecord, plain_key
from autoexport.publishing.layout import Layout, Records, SectionTexts
from autoexport.rendering.counted import CountedSection, CountedSections
from autoexport.rendering.tree import TreeBuilder

_UNPACKED_BLOCKS = 1_000
"""So many records of a section's blocks are unpacked at once; each takes 1 KB, and is needed three times."""

_NO_PLACES: Mapping[int, SectionPlace] = {}


class Sections:
    """The sections of the next generation in every format, fresh or kept.

    `kept` are those of which nothing changed; `published` are all that the ledger knows. `records` are the blocks
    of the others. `lay_out` each of them before the tree is finished. `differ`: a section certainly has another
    text than the published one.
    """

    def __init__(
        self,
        builder: TreeBuilder,
        formats: Sequence[Format],
        records: BlockRecords,
        kept: Mapping[int, SectionRecord],
        published: Sequence[SectionRecord],
        scratch: Scratch,
    ) -> None:
        self.counted = CountedSections(builder, records, kept, scratch)
        self.block_files = [index for index, output in enumerate(formats) for _ in range(part_count(output))]
        self.differ = False
        self._formats = formats
        self._outline = builder.outline
        self._records = records
        self._scratch = scratch
        self._kept = dict(kept)
        self._published = {record.digest: record for record in published}
        self._digests: dict[int, str] = {}
        self._empty: dict[int, bool] = {}
        # Of each part of each block: within its section, or in the file if the format knows no sections.
        self._offsets = [array("Q", bytes(8 * len(records))) for _ in self.block_files]
        self._first = [bisect_left(self.block_files, index) for index in range(len(formats))]
        self.texts: list[SectionTexts | None] = []
        for index, output in enumerate(formats):
            if isinstance(output, SectionFormat):
                self.texts.append(SectionTexts(output, output.separator, self._first[index], scratch))
            else:
                self.texts.append(None)

    def lay_out(self) -> None:
        """Lay out every section."""
        for part in self._outline.parts:
            for index in (part,) if isinstance(part, int) else part[1]:
                if index in self._kept:
                    self._keep(index, self._kept[index])
                else:
                    self._digests[index] = self._outline.sections[index].digest
                    self._add(index, self.counted.section(index))
            if not isinstance(part, int):
                self._head(*part)

    def _head(self, index: int, below: Sequence[int]) -> None:
        digest = self.counted.head_digest(index, below)
        record = self._published.get(digest)
        if record is not None:
            self.counted.sums[index] = record.sums
            self._keep(index, record)
        else:
            self._digests[index] = digest
            self._add(index, self.counted.head(index, below))

    def _keep(self, index: int, record: SectionRecord) -> None:
        self._kept[index] = record
        for texts, place in zip(self.texts, record.places, strict=True):
            if texts is not None:
                texts.keep(index, place)

    def _add(self, index: int, counted: CountedSection) -> None:
        records: Records = self._records
        if len(counted.blocks) <= _UNPACKED_BLOCKS:
            records = {block: self._records[block] for block in counted.blocks}
        self._empty[index] = counted.empty
        before = self._published.get(self._digests[index])
        for file, texts in enumerate(self.texts):
            if texts is None:
                continue
            offsets, place = texts.add(index, counted.section, records)
            if before is not None and not place.same_text(before.places[file]):
                self.differ = True
            if part_count(self._formats[file]):
                for block, offset in zip(counted.blocks, offsets, strict=True):
                    self._offsets[self._first[file]][block] = offset

    def block_at(self, layout: Layout, offset: int) -> tuple[BlockRecord, int, Part, int] | None:
        """The block that a byte of a file belongs to, the offset at which it begins, its part, and which part of
        the format's that is; None for a byte outside the blocks. Only blocks that were rendered are known."""
        for block, begin, index in self._block_offsets(layout):
            part = self._records[block].parts[layout.first + index]
            if begin <= offset < begin + part.length:
                return self._records[block], begin, part, index
        return None

    def _block_offsets(self, layout: Layout) -> Iterator[tuple[int, int, int]]:
        """The rendered blocks, each with the offset in a file at which a part of it begins, and which part."""
        yield from zip(layout.blocks, layout.offsets, layout.parts, strict=True)
        if part_count(self._formats[layout.output]):
            for index, place in layout.sections.items():
                for block in self.counted.blocks_of(index):
                    yield block, place.offset + self._offsets[layout.first][block], 0

    def replaced(self) -> Iterator[SectionRecord]:
        """The published sections that are not kept."""
        kept = {record.digest for record in self._kept.values()}
        return (record for digest, record in self._published.items() if digest not in kept)

    # --- the ledger ----------------------------------------------------------------------------------

    def recorded(self, layouts: Sequence[Layout]) -> Iterator[SectionRecord]:
        """The records of all sections, in the files of these layouts."""
        for layout in layouts:
            for block, offset, part in zip(layout.blocks, layout.offsets, layout.parts, strict=True):
                self._offsets[layout.first + part][block] = offset
        sectioned = {layout.output: layout.sections for layout in layouts if layout.sections}
        for index in range(len(self._outline.sections)):
            places = [
                sectioned.get(output, _NO_PLACES).get(index, SectionPlace())
                for output in range(len(self._formats))
            ]
            if index in self._kept:
                yield replace(self._kept[index], places=places)
                continue
            stored = self._stored(self._body(index))
            sums, counted = self.counted.sums[index], self.counted.counted[index]
            yield SectionRecord(self._digests[index], counted, self._empty[index], sums, places, stored)

    def _stored(self, lines: Iterator[bytes]) -> Stored:
        """Lines in the scratch file. A section may be one large dataset, with the counts of all its blocks."""
        offset, length = self._scratch.append(b""), 0
        for line in lines:
            self._scratch.append(line)
            length += len(line)
        return Stored(self._scratch, offset, length)

    def _body(self, index: int) -> Iterator[bytes]:
        """The keys of the datasets of a section, then its blocks, each on a line."""
        yield orjson.dumps(self._outline.keys_of(index), default=plain_key)
        for block in self.counted.blocks_of(index):
            record = self._records[block]
            parts = [
                (offsets[block], part.length, part.crc)
                for offsets, part in zip(self._offsets, record.parts, strict=True)
            ]
            counts = orjson.Fragment(record.packed)
            row = (record.dataset, record.first, record.last, counts, record.parents, record.ids, parts)
            yield b",\n" + orjson.dumps(row, default=plain_key)
