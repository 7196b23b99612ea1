"""Surveys the tree for the page: totals, the largest projects and datasets, the classes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from autoexport.model.tree import DatasetNode, ProjectNode, Tree
from autoexport.overview.progress_log import Key, key_of
from autoexport.rendering.counted import CountedSections

MOST_PROJECTS = 100
MOST_DATASETS = 200
MOST_LABELS = 2_000
"""A project with more labels has free text as labels, not classes. Its labels are not read for the page."""

MOST_CLASSES = 150
RAREST_CLASSES = 50
MOST_UNUSED = 100
FEW_ROWS = 50
"""So many projects and datasets are shown of a database with more than `MANY_DATASETS`: each section that has to
be opened for one of them takes time."""

MANY_DATASETS = 1_000
RARE = 10
"""A class is rare if it has less than this fraction of the mean of its project's used classes."""


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project of the page, by its published values."""

    key: Key
    name: str
    datasets: int
    images: int
    labeled: int
    verified: int
    annotations: int


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset of the page. `splits` are its images in train, val, test, unassigned and all others."""

    key: Key
    project: str
    name: str
    images: int
    labeled: int
    verified: int
    annotations: int
    splits: tuple[int, int, int, int, int]

    @property
    def lacks_val(self) -> bool:
        """Whether it has images for training and none for validation."""
        return self.splits[0] > 0 and self.splits[1] == 0


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A label of a project, and the number of annotations with its name."""

    project: str
    name: str
    color: str | None
    annotations: int
    rare: bool = False


@dataclass(slots=True)
class Survey:
    """The rows of the page, largest first, and the numbers of all.

    Of the classes, `frequent` are those with the most annotations, `rarest` the used ones with the fewest that are
    not among them, and `unused` some of those without any. `classes_of` is the number of projects whose classes
    were counted, `without_classes` of those with too many labels.
    """

    projects: list[ProjectRow] = field(default_factory=list)
    datasets: list[DatasetRow] = field(default_factory=list)
    frequent: list[ClassRow] = field(default_factory=list)
    rarest: list[ClassRow] = field(default_factory=list)
    unused: list[ClassRow] = field(default_factory=list)
    project_count: int = 0
    dataset_count: int = 0
    used_count: int = 0
    unused_count: int = 0
    rare_count: int = 0
    without_val: int = 0
    classes_of: int = 0
    without_classes: int = 0


class _Largest:
    """Keeps the largest rows, or the smallest ones, of many; equal ones in the order in which they came."""

    def __init__(self, most: int, sign: int = 1) -> None:
        self._most, self._sign, self._serial = most, sign, count(0, -1)
        self._heap: list[tuple[int, int, Any]] = []

    def add(self, size: int, row: Any) -> None:
        """Add a row of this size."""
        item = (self._sign * size, next(self._serial), row)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    def full_above(self, size: int) -> bool:
        """Whether no row of this size, or of less, can come in any more."""
        return len(self._heap) >= self._most and self._heap[0][0] >= size

    def rows(self) -> list[Any]:
        """The rows that are kept, largest first."""
        return [row for *_, row in sorted(self._heap, reverse=True)]


def survey(tree: Tree, sections: CountedSections) -> Survey:
    """Survey a tree that is finished. Opens only the sections that may have one of the largest rows.

    Raises `OSError` if the disk is full.
    """
    found = Survey(project_count=len(tree.projects), dataset_count=tree.count_datasets())
    found.without_val = sum(sums.without_val for sums in sections.sums.values())
    many = found.dataset_count > MANY_DATASETS
    projects = _Largest(FEW_ROWS if many else MOST_PROJECTS)
    datasets = _Largest(FEW_ROWS if many else MOST_DATASETS)
    classes = _Classes(found)
    for project, below in _largest_first(sections, projects, datasets):
        projects.add(project.counts.images, _project_row(project))
        classes.add(project)
        for dataset in below:
            datasets.add(dataset.counts.images, _dataset_row(project, dataset))
    found.projects, found.datasets = projects.rows(), datasets.rows()
    classes.finish()
    return found


def _largest_first(
    sections: CountedSections, projects: _Largest, datasets: _Largest
) -> Iterator[tuple[ProjectNode, Iterable[DatasetNode]]]:
    """Each project with its datasets, as long as one of them may be among the largest."""
    sums = sections.sums
    parts = list(sections.builder.outline.parts)
    parts.sort(key=lambda part: -sums[part if isinstance(part, int) else part[0]].largest)
    for part in parts:
        largest = sums[part if isinstance(part, int) else part[0]].largest
        if projects.full_above(largest) and datasets.full_above(largest):
            return
        if isinstance(part, int):
            for project in sections.whole(part).projects:
                yield project, project.datasets
        else:
            (head,) = sections.head(*part).section.projects
            yield head, _datasets_of(sections, part[1], datasets)


def _datasets_of(sections: CountedSections, below: Iterable[int], datasets: _Largest) -> Iterator[DatasetNode]:
    for index in sorted(below, key=lambda index: -sections.sums[index].largest):
        if datasets.full_above(sections.sums[index].largest):
            return
        for project in sections.whole(index).projects:
            yield from project.datasets


class _Classes:
    """Counts the classes of the projects that are opened."""

    def __init__(self, found: Survey) -> None:
        self._found = found
        self._frequent, self._rarest = _Largest(MOST_CLASSES), _Largest(MOST_CLASSES + RAREST_CLASSES, -1)

    def add(self, project: ProjectNode) -> None:
        """Add the classes of a project."""
        found, name = self._found, _text(project.values["name"])
        if len(project.labels) > MOST_LABELS:
            found.without_classes += 1
            return
        found.classes_of += 1
        used = annotations = 0
        for label in project.labels:
            used += label.annotation_count > 0
            annotations += label.annotation_count
        for label in project.labels:
            number = label.annotation_count
            rare = number > 0 and number * used * RARE < annotations
            color = label.values.get("color")
            row = ClassRow(
                name, _text(label.values["name"]), color if isinstance(color, str) else None, number, rare
            )
            if number:
                found.rare_count += rare
                self._frequent.add(number, row)
                self._rarest.add(number, row)
            elif len(found.unused) < MOST_UNUSED:
                found.unused.append(row)
        found.used_count += used
        found.unused_count += len(project.labels) - used

    def finish(self) -> None:
        """Put the rows in place."""
        found = self._found
        found.frequent = self._frequent.rows()
        others = min(RAREST_CLASSES, found.used_count - len(found.frequent))
        found.rarest = self._rarest.rows()[:others][::-1]


def _project_row(node: ProjectNode) -> ProjectRow:
    own = node.counts
    return ProjectRow(
        key_of(node.values["id"]),
        _text(node.values["name"]),
        len(node.datasets),
        own.images,
        own.labeled,
        own.verified,
        own.annotations,
    )


def _dataset_row(project: ProjectNode, node: DatasetNode) -> DatasetRow:
    own, splits = node.counts, node.counts.splits
    train, val, test, unassigned = (splits.get(name, 0) for name in ("train", "val", "test", "unassigned"))
    others = own.images - train - val - test - unassigned
    return DatasetRow(
        key_of(project.values["id"], node.values["id"]),
        _text(project.values["name"]),
        _text(node.values["name"]),
        own.images,
        own.labeled,
        own.verified,
        own.annotations,
        (train, val, test, unassigned, others),
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)
