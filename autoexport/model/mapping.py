"""Records which real table and column holds each logical table and field."""

from __future__ import annotations

from collections.abc import Mapping as ReadOnly
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from autoexport.model.catalog import Column, Table

KeepQuery = ReadOnly[str, ReadOnly[str, Sequence[str]]]
"""Names of query parameters of URLs, by logical table and field."""

BoxReading = Literal["corners", "origin", "center", "json"]

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]

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

SHAPE_FIELDS = ("rotation", "points", "mask", "attributes", "track_id", "frame", "keyframe")
"""Fields of annotations that are published only where the mapping has them.

`rotation` is in degrees, clockwise. `points`, `mask` and `attributes` are JSON. `keyframe`: the shape was drawn at
this frame of its track.
"""

LABEL_FIELDS = ("id", "name", "color")

NUMBER_FIELDS = (
    "width", "height", "file_size", "confidence", "box_0", "box_1", "box_2", "box_3", "rotation", "frame",
)  # fmt: skip
"""The fields of images and annotations that hold numbers."""


# --- the mapping ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LeftOutTable:
    """A table that looks like annotations and is not mapped: if it has rows, an export would lose them.

    `name` is its name in the configuration file. `lacking` is the setting without which it cannot be mapped as
    annotations, such as `image_id`; it is empty if the table lacks nothing.
    """

    table: Table
    name: str
    lacking: str = ""


@dataclass(frozen=True, slots=True)
class TableMapping:
    """The real table of a logical one, and the real column of each logical field that it has.

    `parent_link` is the column that names the parent, such as the dataset of an image. `parent_column` is the
    column of the parent that it names. A row is soft-deleted if one of the `deleted` columns holds a time or a
    true flag. `where` is a condition in SQL that the rows have to meet; empty if there is none. `expand` is the
    dialect of the documents in the column `document`; empty if there are none.
    """

    table: Table
    fields: dict[str, Column]
    parent_link: Column | None = None
    parent_column: Column | None = None
    deleted: tuple[Column, ...] = ()
    where: str = ""
    expand: str = ""

    @property
    def filtered(self) -> bool:
        """Whether rows that do not meet `where` are left out. Expanded ones are read: they may tell a size."""
        return bool(self.where) and not self.expand


@dataclass(frozen=True, slots=True)
class Mapping:
    """The mapping of a whole database. A logical table is None if the database has no such table.

    `annotations.parent_link` names an image. `images.parent_link` names a dataset, or a project if there is no
    datasets table. `datasets.parent_link` names a project, and so does `labels.parent_link`, or a dataset if
    `labels_by_dataset` is true. A link is None if the table has no such column.

    `box` says how `box_0` to `box_3` are read, or "json" if the box is the JSON column `box_json`. Then
    `box_format` says how a list of four numbers is read; None: it is ambiguous and not read. `box` is None without
    boxes. `label_joined`: the label of an annotation is the name of the row of `labels` with its `label_id`.
    `application` is the name of the known application whose database this is, empty for any other. `preset` is the
    name of the preset that maps it, empty if it has none. `counted` are queries of numbers of rows for `check`,
    each with its sentence.
    `not_found` names the logical tables and fields that the database lacks, such as `images.width`.
    `left_out` are the tables that would lose annotations if they have rows. `ignored` are the tables of which the
    configuration says that they are not exported.
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
    application: str = ""
    preset: str = ""
    counted: tuple[tuple[str, str], ...] = ()
    keep_query: KeepQuery = field(default_factory=dict)
    left_out: tuple[LeftOutTable, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def worded(self) -> frozenset[str]:
        """The fields of numbers whose columns hold text: what is no number there is published as null."""
        read = [mapped.fields.items() for mapped in (self.images, self.annotations) if mapped is not None]
        return frozenset(
            name
            for fields in read
            for name, column in fields
            if name in NUMBER_FIELDS and column.kind in ("text", "enum")
        )

    @property
    def has_queries(self) -> bool:
        """Whether images or annotations are read from a query."""
        mapped = (self.images, self.annotations)
        return any(item is not None and item.table.query is not None for item in mapped)

    @property
    def expand(self) -> dict[str, str]:
        """The dialects of documents, by logical table."""
        return {name: mapped.expand for name, mapped in self.tables().items() if mapped.expand}

    def tables(self) -> dict[str, TableMapping]:
        """The mapped tables by logical name, parents first."""
        named = {
            "projects": self.projects,
            "datasets": self.datasets,
            "labels": self.labels,
            "images": self.images,
            "annotations": self.annotations,
        }
        return {name: mapped for name, mapped in named.items() if mapped is not None}
