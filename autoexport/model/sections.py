"""Records published blocks, packed, and the sections that they are in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import orjson

from autoexport.model import packing
from autoexport.model.blocks import BlockRecord, Counts, Part, pack_fields
from autoexport.model.catalog import Key
from autoexport.model.scratch import Stored


class BlockRecords(Sequence[BlockRecord]):
    """Block records, packed: one takes 0.2 KB instead of 1, and each access makes another object."""

    def __init__(self, records: Iterable[BlockRecord] = ()) -> None:
        self._packed: list[bytes] = []
        for record in records:
            self.append(record)

    def append(self, record: BlockRecord) -> None:
        """Add a record."""
        parts = [(part.offset, part.length, part.crc, part.fresh) for part in record.parts]
        packed = (record.dataset, record.first, record.last, record.packed, record.parents, record.ids, parts)
        self._packed.append(packing.pack(packed))

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, index: int) -> BlockRecord: ...
    @overload
    def __getitem__(self, index: slice) -> BlockRecords: ...
    def __getitem__(self, index: int | slice) -> BlockRecord | BlockRecords:
        if isinstance(index, slice):
            some = BlockRecords()
            some._packed = self._packed[index]
            return some
        record = BlockRecord(*packing.unpack(self._packed[index]))
        record.parts = [Part(*part) for part in record.parts]  # type: ignore[misc]
        return record

    def datasets(self) -> Iterator[Key]:
        """The dataset of each record."""
        return (packing.unpack(packed)[0] for packed in self._packed)

    def picked(self, indexes: Iterable[int]) -> BlockRecords:
        """The records with these indexes, in their order."""
        some = BlockRecords()
        some._packed = [self._packed[index] for index in indexes]
        return some

    def __add__(self, other: BlockRecords) -> BlockRecords:
        some = BlockRecords()
        some._packed = self._packed + other._packed
        return some


@dataclass(slots=True)
class Sums:
    """The sums of the counts of a section's blocks, and of its own values.

    `labels` is the number of labels that its projects list. For `hidden_images` and `added_annotations` see
    `Counts`. `ids` is the sum of `BlockRecord.ids`, modulo 2^64. `train` to `unassigned` count images by split.
    `without_val` counts the datasets that have images for training and none for validation. `largest` is the
    number of images of its largest project, or of its largest dataset if it has only some datasets of a project.
    """

    images: int = 0
    labeled: int = 0
    annotations: int = 0
    repaired: int = 0
    guarded: int = 0
    redacted: int = 0
    ids: int = 0
    labels: int = 0
    blocks: int = 0
    hidden_images: int = 0
    added_annotations: int = 0
    train: int = 0
    val: int = 0
    test: int = 0
    unassigned: int = 0
    verified: int = 0
    unsized: int = 0
    without_val: int = 0
    largest: int = 0

    def add(self, other: Sums) -> None:
        """Add the sums of another section."""
        largest = max(self.largest, other.largest)
        for name in Sums.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.ids %= 2**64
        self.largest = largest


@dataclass(slots=True)
class SectionPlace:
    """The place of a section's text in one published file, in bytes, its CRC-32, and the cells guarded in it."""

    offset: int = 0
    length: int = 0
    crc: int = 0
    guarded: int = 0

    def same_text(self, other: SectionPlace) -> bool:
        """Whether the text has the same length and checksum."""
        return (self.length, self.crc) == (other.length, other.crc)


@dataclass(slots=True)
class SectionRecord:
    """A published section.

    `digest` is that of its rows, `counted` that of its counts. `empty`: a dataset of it has no block. `places` has
    an item for each file. `body` holds its datasets and blocks, as the ledger writes them; the offsets of the
    blocks are those within the section.
    """

    digest: str
    counted: str
    empty: bool
    sums: Sums
    places: list[SectionPlace]
    body: Stored

    def lines(self) -> Iterator[Any]:
        """The keys of the datasets, then the blocks, as lists."""
        for line in self.body.split(b",\n"):
            yield orjson.loads(line)

    def datasets(self) -> list[Key]:
        """The keys of the datasets."""
        return [stored_key(plain) for plain in next(self.lines())]

    def label_counts(self) -> Iterator[Mapping[str, int]]:
        """The counts of the labels of each block."""
        lines = self.lines()
        next(lines)
        return (line[3][4] for line in lines)

    def dataset_counts(self) -> Iterator[tuple[Key, Counts]]:
        """The dataset and the counts of each block."""
        lines = self.lines()
        next(lines)
        return ((stored_key(line[0]), Counts(*line[3])) for line in lines)

    def blocks(self, files: Sequence[int]) -> Iterator[BlockRecord]:
        """The blocks; `files` are the indexes, in `places`, of the files that have blocks."""
        lines = self.lines()
        next(lines)
        begins = [self.places[file].offset for file in files]
        for dataset, first, last, counts, parents, ids, parts in lines:
            placed = [
                Part(begin + offset, length, crc)
                for begin, (offset, length, crc) in zip(begins, parts, strict=True)
            ]
            if type(first) is list or type(dataset) is list:
                dataset, first, last = stored_key(dataset), stored_key(first), stored_key(last)
            yield BlockRecord(dataset, first, last, pack_fields(counts), parents, ids, placed)


def plain_key(key: bytes) -> list[str]:
    """A key of bytes as the ledger writes it: JSON has no type for bytes."""
    return [key.hex()]


def stored_key(plain: Any) -> Key:
    """The key that the ledger has as `plain`."""
    key: Key = bytes.fromhex(plain[0]) if type(plain) is list else plain
    return key
