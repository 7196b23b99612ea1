"""Builds the tree above the images: projects, datasets and labels, with the counts of their blocks."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from collections.abc import Mapping as ReadOnly
from datetime import datetime
from typing import Any

import xxhash

from autoexport.mapping.keys import SOLE_KEY, not_unique
from autoexport.model.blocks import BlockRecord, Counts
from autoexport.model.catalog import Key
from autoexport.model.mapping import DATASET_FIELDS, LABEL_FIELDS, PROJECT_FIELDS, Mapping
from autoexport.model.tree import DatasetNode, LabelNode, ParentRow, Parents, ProjectNode, Tree
from autoexport.values.block import Mended
from autoexport.values.expand import dialect

Ruled = Callable[[ParentRow, Sequence[str], ReadOnly[str, Sequence[str]]], tuple[dict[str, Any], Mended]]

_DATASET_OWN = tuple(name for name in DATASET_FIELDS if name != "project_id")


class TreeBuilder:
    """Builds the tree of one snapshot: first the nodes; the counts when the blocks are known.

    `rule` applies the value rules to a row and counts the repaired values. Raises `SourceError` if two rows of a
    table have the same key.
    """

    def __init__(self, parents: Parents, mapping: Mapping, database: str, rule: Ruled) -> None:
        self.mapping = mapping
        self.repaired = self.redacted = 0
        self._embedded: dict[Key, str] = {}
        self._rule = rule
        self.projects = self._projects(parents, database)
        self._by_project: dict[Key, ProjectNode] = {}
        for project in self.projects:
            self._refuse_duplicate("projects", project.key, self._by_project)
            self._by_project[project.key] = project
        self._datasets(parents)
        self.places: dict[Key, tuple[ProjectNode, DatasetNode]] = {}
        for project in self.projects:
            for dataset in project.datasets:
                self._refuse_duplicate("datasets", dataset.key, self.places)
                self.places[dataset.key] = project, dataset
        # An empty labels table says no more than none.
        self._labels_from_names = mapping.labels is None or not (parents.labels or parents.deleted_labels)
        self._total_labels = self._labels(parents)
        level = parents.datasets if mapping.datasets is not None else parents.projects
        self._referred_values = {row["id"]: row.get("named") for row in level}
        self._label_digest = _hashed((parents.labels, parents.deleted_labels)) if mapping.label_joined else ""

    def embedded(self, dataset: Key) -> str:
        """A digest of the values from above that a block of this dataset repeats, or that its images refer to."""
        if dataset in self._embedded:
            return self._embedded[dataset]
        project, node = self.places[dataset]
        repeated = [project.values["id"], project.values["name"], node.values["id"], node.values["name"]]
        referred = self._referred_values.get(dataset)
        facts = (project.facts,) if project.facts else ()
        self._embedded[dataset] = _hashed((repeated, referred, self._label_digest, *facts))
        return self._embedded[dataset]

    def finish(self, timestamp: datetime, records: Sequence[BlockRecord]) -> Tree:
        """The tree with its blocks and all counts; `records` are the blocks in the order of the files."""
        for index, record in enumerate(records):
            project, dataset = self.places[record.dataset]
            counts = record.counts
            if counts.images or not counts.hidden_images:
                dataset.blocks.append(index)
            dataset.counts.add(counts)
        total = Counts(repaired=self.repaired, redacted=self.redacted)
        for project in self.projects:
            for dataset in project.datasets:
                project.counts.add(dataset.counts)
            self._count_labels(project)
            total.add(project.counts)
        labels = self._total_labels
        if self._labels_from_names:
            labels = sum(len(project.labels) for project in self.projects)
        return Tree(timestamp, self.projects, labels, total)

    def _refuse_duplicate(self, logical: str, key: Key, known: Container[Key]) -> None:
        """Raise `SourceError` for a key that two rows have: the rows below them could not be distinguished."""
        if key in known and (mapped := self.mapping.tables().get(logical)) is not None:
            raise not_unique(logical, mapped, key)

    # --- nodes ---------------------------------------------------------------------------------------

    def _values(self, logical: str, row: ParentRow, fields: Sequence[str]) -> dict[str, Any]:
        values, mended = self._rule(row, fields, self.mapping.keep_query.get(logical, {}))
        self.repaired += mended.repaired
        self.redacted += mended.redacted
        return {name: values[name] for name in fields}

    def _projects(self, parents: Parents, database: str) -> list[ProjectNode]:
        if self.mapping.projects is None:
            blank: dict[str, Any] = dict.fromkeys(PROJECT_FIELDS)
            return [ProjectNode(SOLE_KEY, {**blank, "id": SOLE_KEY, "name": database})]
        return [self._project(row) for row in parents.projects]

    def _project(self, row: ParentRow) -> ProjectNode:
        node = ProjectNode(row["id"], self._values("projects", row, PROJECT_FIELDS))  # type: ignore[arg-type]
        name = self.mapping.expand.get("projects")
        read = dialect(name).read_project if name else None
        if read is not None:
            document = read(row.get("document"))
            node.label_colors, node.facts = document.labels, document.facts
        return node

    def _datasets(self, parents: Parents) -> None:
        if self.mapping.datasets is None:
            for project in self.projects:
                blank: dict[str, Any] = dict.fromkeys(DATASET_FIELDS)
                own = {
                    "id": project.values["id"],
                    "project_id": project.values["id"],
                    "name": project.values["name"],
                }
                project.datasets.append(DatasetNode(project.key, {**blank, **own}))
            return
        linked = self.mapping.datasets.parent_link is not None and self.mapping.projects is not None
        for row in parents.datasets:
            parent: Any = row.get("parent")
            owner = self._by_project.get(parent) if linked else self.projects[0]
            if owner is None:
                continue
            values = self._values("datasets", row, _DATASET_OWN)
            values["project_id"] = owner.values["id"]
            ordered = {name: values[name] for name in DATASET_FIELDS}
            owner.datasets.append(DatasetNode(row["id"], ordered))  # type: ignore[arg-type]

    def _labels(self, parents: Parents) -> int:
        mapped = self.mapping.labels
        if mapped is None:
            return 0
        published = 0
        for row in parents.labels:
            owners = self._owners(row, linked=mapped.parent_link is not None)
            if owners:
                published += 1
                values = self._values("labels", row, LABEL_FIELDS)
                for project in owners:
                    project.labels.append(LabelNode(values))
        return published

    def _owners(self, row: ParentRow, *, linked: bool) -> list[ProjectNode]:
        """The projects that list a label: its own, or all if labels belong to no project."""
        if not linked:
            return self.projects
        parent: Any = row.get("parent")
        if self.mapping.labels_by_dataset:
            place = self.places.get(parent)
            return [place[0]] if place else []
        if self.mapping.projects is None:
            return self.projects
        project = self._by_project.get(parent)
        return [project] if project else []

    def _count_labels(self, project: ProjectNode) -> None:
        """Give each label the project's count for its name; without rows of labels, make labels of the names."""
        counted = project.counts.labels
        if self._labels_from_names:
            colors = project.label_colors
            project.labels = [
                LabelNode({"id": None, "name": name, "color": colors.get(name)}, counted.get(name, 0))
                for name in sorted({**counted, **colors})
            ]
        for label in project.labels:
            label.annotation_count = counted.get(label.values["name"], 0)  # type: ignore[arg-type]


def _hashed(value: object) -> str:
    return xxhash.xxh3_64_hexdigest(repr(value).encode("utf-8", "surrogateescape"))
