"""The records that are handed from station to station."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Scalar = None | bool | int | float | str | bytes
"""What a source delivers for a column: never a driver's own type."""

Key = int | str | bytes
"""The value of a key column."""

ColumnKind = Literal[
    "integer",
    "real",
    "numeric",
    "text",
    "boolean",
    "time",
    "json",
    "uuid",
    "binary",
    "array",
    "enum",
    "other",
]
TableKind = Literal["table", "view", "foreign table", "partitioned table"]
BoxReading = Literal["corners", "origin", "center", "json"]
BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
JsonStyle = Literal["records", "pretty"]

PROJECT_FIELDS = ("id", "name", "description", "project_type", "created_at", "updated_at")
DATASET_FIELDS = ("id", "project_id", "name", "description", "created_at", "updated_at")
IMAGE_FIELDS = (
    "id", "filename", "original_filename", "file_path", "width", "height", "format", "file_size", "split",
    "status", "is_labeled", "is_auto_labeled", "is_verified", "created_at", "updated_at",
)  # fmt: skip
ANNOTATION_FIELDS = (
    "id", "type", "label", "label_id", "confidence", "box_0", "box_1", "box_2", "box_3", "box_json", "polygon",
    "is_auto_generated", "is_verified", "model_id", "created_at", "updated_at",
)  # fmt: skip
LABEL_FIELDS = ("id", "name", "color")


# --- what a database has -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the database declares it; `type_name` is the database's own word for its type."""

    name: str
    kind: ColumnKind
    type_name: str = ""
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A declared foreign key; composite ones have several columns."""

    columns: tuple[str, ...]
    referred_schema: str | None
    referred_table: str
    referred_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view as the database declares it. `indexes` holds the column lists of all indexes,
    those of primary keys and unique constraints included."""

    name: str
    schema: str | None
    kind: TableKind
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()

    @property
    def full_name(self) -> str:
        """`schema.name`, or the name alone where there is no schema."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def column(self, name: str) -> Column | None:
        """The column of exactly this name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    def has_index_on(self, column: str) -> bool:
        """Whether an index begins with this column."""
        return any(index[:1] == (column,) for index in self.indexes)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All tables and views that the connection can see."""

    tables: tuple[Table, ...]


# --- how it is understood ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableMapping:
    """One logical table: the real one, and for each logical field the real column.

    `parent_link` is the column that names the parent (an image's dataset), `parent_column` the
    column of the parent that it names. `deleted` are the columns that mark a row as soft-deleted:
    set (a time) or true (a flag).
    """

    table: Table
    fields: dict[str, Column]
    parent_link: Column | None = None
    parent_column: Column | None = None
    deleted: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Mapping:
    """How the tables of a database are understood.

    `annotations.parent_link` names an image, `images.parent_link` a dataset, or a project where
    there is no datasets table; `datasets.parent_link` and `labels.parent_link` name a project
    (`labels.parent_is_dataset`: a dataset). None where the database has no such table or link.

    `box` says how `box_0` to `box_3` are read, or that the box is the JSON column `box_json`, in
    which case `box_format` is how a list of four is read (None: ambiguous, not read).
    `label_joined`: the label of an annotation is the name that `label_id` refers to in `labels`.
    """

    projects: TableMapping | None
    datasets: TableMapping | None
    images: TableMapping
    annotations: TableMapping | None
    labels: TableMapping | None
    box: BoxReading | None = None
    box_format: BoxFormat | None = None
    label_joined: bool = False
    labels_by_dataset: bool = False
    warnings: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()

    def tables(self) -> dict[str, TableMapping]:
        """The logical tables that are mapped, by name, parents first."""
        named = {
            "projects": self.projects,
            "datasets": self.datasets,
            "labels": self.labels,
            "images": self.images,
            "annotations": self.annotations,
        }
        return {name: mapped for name, mapped in named.items() if mapped is not None}


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


Value = Scalar | datetime
"""A value after the rules of `autoexport.values`."""


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


# --- the tree that is published ------------------------------------------------------------------


@dataclass(slots=True)
class LabelNode:
    """A label of a project and how often the project's annotations bear its name."""

    values: dict[str, Value]
    annotation_count: int = 0


@dataclass(slots=True)
class DatasetNode:
    """A dataset: its fields, its counts, and the numbers of its blocks in id order."""

    key: Key
    values: dict[str, Value]
    counts: Counts = field(default_factory=Counts)
    blocks: list[int] = field(default_factory=list)


@dataclass(slots=True)
class ProjectNode:
    """A project: its fields, its labels, its datasets in id order."""

    key: Key
    values: dict[str, Value]
    labels: list[LabelNode] = field(default_factory=list)
    datasets: list[DatasetNode] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)


@dataclass(slots=True)
class Tree:
    """Everything above the images, in publication order, and when it was read (UTC)."""

    timestamp: datetime
    projects: list[ProjectNode]
    total_labels: int
    counts: Counts = field(default_factory=Counts)


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
