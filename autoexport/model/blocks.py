"""Records blocks: their rows, published values, bytes and counts, and ranges of images that changed."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, overload

import orjson

from autoexport.model.catalog import Key, Scalar
from autoexport.model.scratch import Stored

Value = Scalar | datetime
"""A value to which the rules of `autoexport.values` were applied."""


@dataclass(slots=True)
class Part:
    """The place of a block's bytes in one file: in the spool if `fresh`, else in the published file.

    `offset` and `length` are in bytes.
    """

    offset: int
    length: int
    crc: int
    fresh: bool = False


@dataclass(slots=True)
class BlockRecord:
    """A published block: its images, its counts, a digest of its parents, and its bytes in each file.

    The images are those of `dataset` from `first` to `last`. The counts are packed, because a database of ten
    million images has fifteen thousand blocks. `parents` is a digest of the values of dataset and project that
    the bytes repeat. `ids` is the sum of the hashes of the image ids, modulo 2^64. Sets of blocks with the same
    images have equal sums.
    """

    dataset: Key
    first: Key
    last: Key
    packed: bytes
    parents: str
    ids: int
    parts: list[Part]

    @property
    def counts(self) -> Counts:
        """The unpacked counts."""
        images, labeled, annotations, splits, labels, repaired, guarded = orjson.loads(self.packed)
        return Counts(images, labeled, annotations, splits, labels, repaired, guarded)


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
        self._packed.append(marshal.dumps(packed, 2))

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
        record = BlockRecord(*marshal.loads(self._packed[index]))  # noqa: S302 - packed by this process
        record.parts = [Part(*part) for part in record.parts]  # type: ignore[misc]
        return record

    def datasets(self) -> Iterator[Key]:
        """The dataset of each record."""
        return (marshal.loads(packed)[0] for packed in self._packed)  # noqa: S302 - packed by this process

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

    `labels` is the number of labels that its projects list. `ids` is the sum of `BlockRecord.ids`, modulo 2^64.
    """

    images: int = 0
    labeled: int = 0
    annotations: int = 0
    repaired: int = 0
    guarded: int = 0
    ids: int = 0
    labels: int = 0
    blocks: int = 0

    def add(self, other: Sums) -> None:
        """Add those of another section."""
        for name in Sums.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.ids %= 2**64


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
        for line in self.body.read().split(b",\n"):
            yield orjson.loads(line)

    def datasets(self) -> list[Key]:
        """The keys of the datasets."""
        keys: list[Key] = next(self.lines())
        return keys

    def label_counts(self) -> Iterator[Mapping[str, int]]:
        """The counts of the labels of each block."""
        lines = self.lines()
        next(lines)
        return (line[3][4] for line in lines)

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
            yield BlockRecord(dataset, first, last, _packed(counts), parents, ids, placed)


def pack(counts: Counts) -> bytes:
    """Encode counts as `BlockRecord.packed`."""
    return _packed(
        [
            counts.images, counts.labeled, counts.annotations, dict(counts.splits), dict(counts.labels),
            counts.repaired, counts.guarded,
        ]
    )  # fmt: skip


def _packed(counts: list[Any]) -> bytes:
    # A copy: orjson returns its whole buffer with the result, at least 4 KB.
    return bytes(memoryview(orjson.dumps(counts)))


# --- rows and values -----------------------------------------------------------------------------


@dataclass(slots=True)
class FlatRows:
    """The rows of a table, concatenated in one list: this takes less memory and time than a list of rows."""

    fields: Sequence[str]
    values: list[Scalar]

    def columns(self) -> dict[str, Sequence[Scalar]]:
        """The columns by field; empty if there are no rows."""
        return {name: self.column(name) for name in self.fields} if self.values else {}

    def column(self, name: str) -> Sequence[Scalar]:
        """One column. Raises ValueError if there is no such field."""
        return self.values[self.fields.index(name) :: len(self.fields)]


@dataclass(slots=True)
class BlockRows:
    """The raw rows of a block, of a piece of it, or of several small blocks that follow one another.

    The images are in id order, and so are the annotations of each. The fields are logical ones; a field that the
    database lacks is absent. `spans` is the number of annotations of each image. `ends`: no further piece of the
    last block follows. `members`: if there are several blocks, the dataset and the number of images of each.
    """

    dataset: Key
    images: FlatRows
    annotations: FlatRows
    spans: list[int]
    ends: bool = True
    members: Sequence[tuple[Key, int]] = ()

    def blocks(self) -> Sequence[tuple[Key, int]]:
        """The dataset and the number of images of each block that has rows here."""
        return self.members or [(self.dataset, len(self.spans))]

    def image_keys(self) -> Sequence[Key]:
        """The keys of the images."""
        return self.images.column("id")  # type: ignore[return-value]


@dataclass(slots=True)
class Counts:
    """The counts of a block, a dataset or a project: always of rows, never from counters in the database."""

    images: int = 0
    labeled: int = 0
    annotations: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    repaired: int = 0
    guarded: int = 0

    def add(self, other: Counts) -> None:
        """Add the counts of a part."""
        self.images += other.images
        self.labeled += other.labeled
        self.annotations += other.annotations
        self.repaired += other.repaired
        self.guarded += other.guarded
        labels = self.labels
        assert isinstance(labels, dict)  # noqa: S101 - only the counts of a node may be kept elsewhere
        for mine, theirs in ((self.splits, other.splits), (labels, other.labels)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count


@dataclass(slots=True)
class Block:
    """The values of a block, or of several that follow one another: columns by the name of the published field.

    In `annotations`, the box is in four columns `x_min` to `y_max`, all None without a box. `polygon` holds JSON
    on one line. `spans` is the number of annotations of each image. `json_cells` caches the JSON of columns that
    several formats write.
    """

    images: dict[str, Sequence[Any]]
    annotations: dict[str, Sequence[Any]]
    spans: list[int]
    counts: Counts = field(default_factory=Counts)
    json_cells: dict[str, list[bytes]] = field(default_factory=dict)


# --- incremental ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Everything:
    """The answer that anything may have changed, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Changes:
    """The images whose rows may be new or different since a position: at least those that are.

    `images` are keys as stored in the images table. `orphans_seen`: a changed row names a parent that does not
    exist, so equal row counts prove nothing. Deleted rows leave no trace here.
    """

    images: Set[Key]
    orphans_seen: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """The images of a dataset with ids after `after`, up to and including `to`. None means no limit."""

    dataset: Key
    after: Key | None
    to: Key | None


@dataclass(frozen=True, slots=True)
class Guarded:
    """A remark, in the text of a section, that so many cells of it were guarded."""

    cells: int


@dataclass(frozen=True, slots=True)
class SectionRef:
    """A placeholder, in the text of a file, for that of the section of this index."""

    section: int


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A placeholder, in the text of a file, for the bytes of the block of this index."""

    block: int
