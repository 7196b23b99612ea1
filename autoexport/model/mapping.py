"""Which real tables and columns hold the logical ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autoexport.model.catalog import Column, Table

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

LABEL_FIELDS = ("id", "name", "color")


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
