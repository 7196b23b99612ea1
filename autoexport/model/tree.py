"""Records the tree above the images: projects, datasets and labels with their counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from autoexport.model.blocks import Counts, Value
from autoexport.model.catalog import Key, Scalar

ParentRow = dict[str, Scalar]


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

    `label_colors` are the labels that its document declares, by name. `facts` are what a dialect has to know of
    the project to read the documents of its images.
    """

    key: Key
    values: dict[str, Value]
    labels: list[LabelNode] = field(default_factory=list)
    datasets: list[DatasetNode] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    label_colors: Mapping[str, str | None] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Tree:
    """Everything above the images in publication order. `timestamp` is the time of the snapshot (UTC)."""

    timestamp: datetime
    projects: list[ProjectNode]
    total_labels: int
    counts: Counts = field(default_factory=Counts)


@dataclass(slots=True)
class Parents:
    """All rows of the small tables in id order.

    In a row, `parent` is the key of its project, or of its dataset for labels that belong to datasets. It is None
    if that row does not exist. `named` is the value by which images name a dataset: its key or another column.
    The soft-deleted `deleted_labels` are in no list of labels, but annotations keep their names.
    """

    projects: list[ParentRow]
    datasets: list[ParentRow]
    labels: list[ParentRow]
    deleted_labels: list[ParentRow] = field(default_factory=list)


@dataclass(slots=True)
class Totals:
    """The number of rows by logical table: those that are not soft-deleted (`live`), and those that are."""

    live: dict[str, int] = field(default_factory=dict)
    soft_deleted: dict[str, int] = field(default_factory=dict)
