"""Records blocks: their rows, published values, bytes and counts, and ranges of images that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from autoexport.model.catalog import Key, Scalar

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
        return Counts(*orjson.loads(self.packed))


def pack(counts: Counts) -> bytes:
    """Encode counts as `BlockRecord.packed`."""
    return pack_fields(
        [
            counts.images, counts.labeled, counts.annotations, dict(counts.splits), dict(counts.labels),
            counts.repaired, counts.guarded, counts.redacted, counts.tallies, counts.hidden_images,
            counts.added_annotations, counts.verified, counts.unsized,
        ]
    )  # fmt: skip


def pack_fields(counts: list[Any]) -> bytes:
    """Encode the fields of counts, in the order of `pack`, as `BlockRecord.packed`."""
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

    def slice(self, begin: int, end: int) -> FlatRows:
        """The rows from `begin` to before `end`."""
        width = len(self.fields)
        return FlatRows(self.fields, self.values[begin * width : end * width])

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

    def apart(self) -> Iterator[BlockRows]:
        """The rows of each block by themselves."""
        image = annotation = 0
        for dataset, length in self.blocks():
            spans = self.spans[image : image + length]
            images = self.images.slice(image, image + length)
            below = self.annotations.slice(annotation, annotation + sum(spans))
            yield BlockRows(dataset, images, below, spans)
            image, annotation = image + length, annotation + sum(spans)

    def image_keys(self) -> Sequence[Key]:
        """The keys of the images."""
        return self.images.column("id")  # type: ignore[return-value]


@dataclass(slots=True)
class Counts:
    """The counts of a block, a dataset or a project: always of rows, never from counters in the database.

    `tallies` are counts of the formats' own, such as the rows that one of them left out, by name. `hidden_images`
    are rows of the images table that are no images. `added_annotations` is by how many there are more annotations
    than stored rows of them, because a row may hold several or none. `unsized` is the number of images without a
    width or a height.
    """

    images: int = 0
    labeled: int = 0
    annotations: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    repaired: int = 0
    guarded: int = 0
    redacted: int = 0
    tallies: dict[str, int] = field(default_factory=dict)
    hidden_images: int = 0
    added_annotations: int = 0
    verified: int = 0
    unsized: int = 0

    @property
    def image_rows(self) -> int:
        """The number of stored rows of images."""
        return self.images + self.hidden_images

    @property
    def annotation_rows(self) -> int:
        """The number of stored rows of annotations."""
        return self.annotations - self.added_annotations

    def add(self, other: Counts) -> None:
        """Add the counts of a part."""
        self.images += other.images
        self.labeled += other.labeled
        self.annotations += other.annotations
        self.repaired += other.repaired
        self.guarded += other.guarded
        self.redacted += other.redacted
        self.hidden_images += other.hidden_images
        self.added_annotations += other.added_annotations
        self.verified += other.verified
        self.unsized += other.unsized
        labels = self.labels
        assert isinstance(labels, dict)  # noqa: S101 - only the counts of a node may be kept elsewhere
        for mine, theirs in (
            (self.splits, other.splits), (labels, other.labels), (self.tallies, other.tallies),
        ):  # fmt: skip
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
    exist, so equal row counts prove nothing. Deleted rows leave no trace here. `unmoved`: no row of the tables is
    new, different or gone. `reason` says how the changes were found, if there was a choice.
    """

    images: Set[Key]
    orphans_seen: bool = False
    unmoved: bool = field(default=False, compare=False)
    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Range:
    """The images of a dataset with ids after `after`, up to and including `to`. None means no limit."""

    dataset: Key
    after: Key | None
    to: Key | None


Place = tuple[Key, Key]
"""The place of an image in the order of all images: the keys of its dataset and of itself."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The images after one place, up to and including another. None means no limit."""

    after: Place | None = None
    to: Place | None = None


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
    """A placeholder, in the text of a file, for the bytes of the block of this index.

    `part` says which, if the format has several parts for each block.
    """

    block: int
    part: int = 0
