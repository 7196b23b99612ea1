"""The records of the tree above the images: projects, datasets and labels with their counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from autoexport.model.blocks import Counts, Value
from autoexport.model.catalog import Key, Scalar

ParentRow = dict[str, Scalar]


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


@dataclass(slots=True)
class Parents:
    """The small tables, whole and in id order. `parent` is the key of the row's project (of its
    dataset, for labels that belong to datasets): None where it is not there. `named` is what images
    call a dataset by: its key, or another column of it. `deleted_labels` are soft-deleted: in no list of
    labels, but annotations still have their names."""

    projects: list[ParentRow]
    datasets: list[ParentRow]
    labels: list[ParentRow]
    deleted_labels: list[ParentRow] = field(default_factory=list)


@dataclass(slots=True)
class Totals:
    """Rows by logical table: those that are not soft-deleted, and those that are."""

    live: dict[str, int] = field(default_factory=dict)
    soft_deleted: dict[str, int] = field(default_factory=dict)
