"""Records the tree above the images: projects, datasets and labels with their counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, Literal

from autoexport.model.blocks import Counts, Value
from autoexport.model.catalog import Key
from autoexport.model.packing import pack, unpack

_PACKED_TOGETHER = 200

Row = tuple[Any, ...]
"""A row of a small table."""

SPLITS = ("train", "val", "test", "unassigned")
"""The splits that every dataset is counted by; there may be others."""

# --- the published tree --------------------------------------------------------------------------


@dataclass(slots=True)
class LabelNode:
    """A label of a project and the number of the project's annotations with its name."""

    values: dict[str, Value]
    annotation_count: int = 0


@dataclass(slots=True)
class DatasetNode:
    """A dataset: its fields, its counts, and the indexes of its blocks in id order."""

    key: Key
    values: dict[str, Value]
    counts: Counts = field(default_factory=Counts)
    blocks: list[int] = field(default_factory=list)


@dataclass(slots=True)
class ProjectNode:
    """A project: its fields, its labels, its datasets in id order.

    `folder` and `classes` are those of the formats for training: the name of its folder, and its classes in their
    order. They are empty if no such format is on. `label_colors` are the labels that its document declares, by
    name. `facts` are what a dialect has to know of the project to read the documents of its images.
    """

    key: Key
    values: dict[str, Value]
    labels: Collection[LabelNode] = field(default_factory=list)
    datasets: Collection[DatasetNode] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    folder: str = ""
    classes: Sequence[str] = ()
    label_colors: Mapping[str, str | None] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def in_order(counted: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    """The names and counts in the order of the names. A mapping that is no dict has that order itself."""
    return sorted(counted.items()) if isinstance(counted, dict) else counted.items()


SectionKind = Literal["projects", "head", "datasets"]


@dataclass(slots=True)
class Section:
    """Nodes whose text stands together in each file, and is kept as a whole while none of them changes.

    They are small projects whole, or of a large project only its head, or some of its datasets. Of a head, no
    dataset is written. Of `datasets`, the only project has no counts and no labels.
    """

    kind: SectionKind
    projects: Sequence[ProjectNode]


Part = int | tuple[int, Sequence[int]]
"""A part of the tree by the indexes of its sections: small projects, or head and datasets of a large one."""


@dataclass(slots=True)
class Tree:
    """Everything above the images in publication order. `timestamp` is the time of the snapshot (UTC).

    `parts` are all sections in order; None if the tree was not cut into sections. `dataset_count` is known if it
    was.
    """

    timestamp: datetime
    projects: Collection[ProjectNode]
    total_labels: int
    counts: Counts = field(default_factory=Counts)
    parts: Sequence[Part] | None = None
    dataset_count: int | None = None

    def count_datasets(self) -> int:
        """The number of all datasets."""
        known = self.dataset_count
        return sum(len(project.datasets) for project in self.projects) if known is None else known


class PackedRows(Collection[Row]):
    """Rows, packed some at a time: a label takes 50 bytes instead of 300. Each iteration makes other objects."""

    def __init__(self, rows: Sequence[Sequence[Any]] = ()) -> None:
        self.packed: list[bytes] = []
        self._length = 0
        self.extend(rows)

    def extend(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows."""
        for begun in range(0, len(rows), _PACKED_TOGETHER):
            self.packed.append(pack(list(map(tuple, rows[begun : begun + _PACKED_TOGETHER]))))
        self._length += len(rows)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(map(unpack, self.packed))

    def __contains__(self, item: object) -> bool:
        return any(item == row for row in self)


@dataclass(slots=True)
class ParentRows:
    """Rows of a small table in id order, each with its values in the order of `fields`."""

    fields: Sequence[str] = ()
    rows: PackedRows = field(default_factory=PackedRows)


@dataclass(slots=True)
class Parents:
    """All rows of the small tables.

    Of the fields, `parent` is the key of its project, or of its dataset for labels that belong to datasets. It is
    None if that row does not exist. `named` is the value by which images name a dataset: its key or another
    column. The soft-deleted `deleted_labels` are in no list of labels, but annotations keep their names.
    """

    projects: ParentRows
    datasets: ParentRows
    labels: ParentRows
    deleted_labels: ParentRows = field(default_factory=ParentRows)


@dataclass(slots=True)
class Totals:
    """The number of rows by logical table: those that are not soft-deleted (`live`), and those that are.

    `published_again` counts the annotations that are published with one more of several images of the same key.
    """

    live: dict[str, int] = field(default_factory=dict)
    soft_deleted: dict[str, int] = field(default_factory=dict)
    published_again: int = 0

    def orphans(self, reached: dict[str, int]) -> dict[str, int]:
        """The live rows without a parent, by logical table, from the rows that were `reached` from above."""
        again = {"annotations": self.published_again}
        return {
            name: max(0, self.live[name] + again.get(name, 0) - count)
            for name, count in reached.items()
            if name in self.live
        }
