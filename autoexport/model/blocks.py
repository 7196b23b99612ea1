"""The records of blocks: rows that were read, values that are published, ranges, changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from autoexport.model.catalog import Key, Scalar

Value = Scalar | datetime
"""A value after the rules of `autoexport.values`."""


@dataclass(slots=True)
class Part:
    """The bytes of a block in one file: in the published one, or fresh in the spool."""

    offset: int
    length: int
    crc: int
    fresh: bool = False


@dataclass(slots=True)
class BlockRecord:
    """A block: which images, what it counts, what it embeds from above, and its bytes in each file.

    `counts` is packed, because a database of ten million images has fifteen thousand blocks.
    `parents` is a digest of the values of its dataset and project that its bytes repeat. `ids` is the
    sum of the hashes of its image ids, modulo 2^64: sums of blocks are equal when the same images are in them.
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
        """The counts, unpacked."""
        images, labeled, annotations, splits, labels, repaired, guarded = orjson.loads(self.packed)
        return Counts(images, labeled, annotations, Counter(splits), Counter(labels), repaired, guarded)


def pack(counts: Counts) -> bytes:
    """Counts as a block record keeps them."""
    return _packed(
        [
            counts.images, counts.labeled, counts.annotations, dict(counts.splits), dict(counts.labels),
            counts.repaired, counts.guarded,
        ]
    )  # fmt: skip


def _packed(counts: list[Any]) -> bytes:
    # A copy: orjson gives its result together with all the room that it made for it, 4 KB at least.
    return bytes(memoryview(orjson.dumps(counts)))


# --- what is read --------------------------------------------------------------------------------


@dataclass(slots=True)
class FlatRows:
    """Rows of a table one after the other in one list, which takes less memory and time than a list of rows."""

    fields: Sequence[str]
    values: list[Scalar]

    def columns(self) -> dict[str, Sequence[Scalar]]:
        """The columns by field; none if there are no rows."""
        return {name: self.column(name) for name in self.fields} if self.values else {}

    def column(self, name: str) -> Sequence[Scalar]:
        """One column. Raises ValueError if there is no such field."""
        return self.values[self.fields.index(name) :: len(self.fields)]


@dataclass(slots=True)
class BlockRows:
    """The raw rows of a block or of a piece of it: images in id order and the annotations of each, in id order.

    The fields are logical ones; a field that the database does not have is absent. `spans` says how many
    annotations each image has. `ends`: no further piece of the same block follows.
    """

    dataset: Key
    images: FlatRows
    annotations: FlatRows
    spans: list[int]
    ends: bool = True

    def image_keys(self) -> Sequence[Key]:
        """The keys of the images."""
        return self.images.column("id")  # type: ignore[return-value]


@dataclass(slots=True)
class Counts:
    """What is counted of a block, a dataset or a project; always from rows, never from stored counters."""

    images: int = 0
    labeled: int = 0
    annotations: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    guarded: int = 0

    def add(self, other: Counts) -> None:
        """Add the counts of a part to those of the whole."""
        self.images += other.images
        self.labeled += other.labeled
        self.annotations += other.annotations
        self.repaired += other.repaired
        self.guarded += other.guarded
        for mine, theirs in ((self.splits, other.splits), (self.labels, other.labels)):
            for word, number in theirs.items():
                mine[word] += number


@dataclass(slots=True)
class Block:
    """The values of one block, ready for the formats: columns by the name of the published field.

    In `annotations`, `bbox` is four columns `x_min` to `y_max`, all null where there is no box, and
    `polygon` holds JSON on one line. `json_cells` keeps the JSON of columns that several formats write.
    """

    images: dict[str, Sequence[Any]]
    annotations: dict[str, Sequence[Any]]
    spans: list[int]
    counts: Counts
    json_cells: dict[str, list[bytes]] = field(default_factory=dict)


# --- incremental ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Everything:
    """The answer "anything may have changed", and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Changes:
    """The images whose rows may be new or different since a position: a superset of the truth.

    `images` are image keys as stored in the images table; `orphans_seen`: a changed row names a
    parent that is not there, so that the conservation of row counts proves nothing. Rows that are
    gone leave no trace here.
    """

    images: Set[Key]
    orphans_seen: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """The images of a dataset whose id is after `after` (None: from the first) and up to and
    including `to` (None: to the last)."""

    dataset: Key
    after: Key | None
    to: Key | None


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A place in a published file where the bytes of a block go."""

    block: int
