"""Builds the nodes above the images: projects, datasets and labels, from their rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import merge
from itertools import chain
from typing import Any

from autoexport.formats.contract import Owner
from autoexport.mapping.keys import SOLE_KEY
from autoexport.model.catalog import Key, Scalar
from autoexport.model.mapping import DATASET_FIELDS, LABEL_FIELDS, PROJECT_FIELDS
from autoexport.model.mapping import Mapping as TableMappings
from autoexport.model.scratch import Scratch
from autoexport.model.tree import DatasetNode, LabelNode, Parents, ProjectNode, Row, Section, in_order
from autoexport.rendering.outline import Outline, hashed
from autoexport.values.expand import dialect
from autoexport.values.mended import Mended

Ruled = Callable[
    [Mapping[str, Sequence[Scalar]], Sequence[str], int, Mapping[str, Sequence[str]]],
    tuple[dict[str, Sequence[Any]], Mended],
]

_PROJECT_ID = DATASET_FIELDS.index("project_id")
_DOCUMENTS_HELD = 64
_DATASET_OWN = tuple(name for name in DATASET_FIELDS if name != "project_id")


class TreeBuilder:
    """Builds the nodes of one snapshot, a section at a time.

    `rule` applies the value rules to rows, by column, and counts the values that it mended. Raises `SourceError`
    if two rows of a table have the same key. `training` has the folder and the classes of each project, by key, if
    a format for training is on.
    """

    def __init__(
        self, parents: Parents, mapping: TableMappings, database: str, rule: Ruled, scratch: Scratch
    ) -> None:
        self.mapping = mapping
        self.outline = Outline(parents, mapping, database, scratch)
        self.training: Mapping[Key, tuple[str, Sequence[str]]] = {}
        self._rule = rule
        name = mapping.expand.get("projects")
        read = dialect(name).read_project if name else None
        self._read = lru_cache(_DOCUMENTS_HELD)(read) if read is not None else None
        annotations = mapping.expand.get("annotations")
        by_id = bool(annotations) and dialect(annotations).labels_by_id
        self._labels_by_id = by_id and mapping.labels is not None and bool(parents.labels.fields)
        level = parents.datasets if mapping.datasets is not None else parents.projects
        self._named = list(level.fields).index("named") if "named" in level.fields else None

    @property
    def datasets(self) -> Collection[Key]:
        """The keys of all published datasets."""
        return self.outline.index_of

    def owners(self, datasets: Sequence[Key]) -> tuple[list[Owner], list[str]]:
        """The nodes of the projects and datasets with these keys, and for each dataset a digest of the values
        from above that a block of it repeats, or that its images refer to."""
        rows = [self.outline.rows_of(dataset) for dataset in datasets]
        projects = {self.outline.project_key(row): row for row, _ in rows}
        nodes = dict(zip(projects, self._projects(list(projects.values()))[0], strict=True))
        above = [nodes[self.outline.project_key(row)] for row, _ in rows]
        below, _ = self._datasets(above, [row for _, row in rows])
        owners = list(zip(above, below, strict=True))
        referred = [None] * len(rows) if self._named is None else [self._referred(*row) for row in rows]
        return owners, [self._embedded(owner, named) for owner, named in zip(owners, referred, strict=True)]

    def embedded(self, dataset: Key) -> str:
        """The digest that `owners` gives for a dataset."""
        return self.owners([dataset])[1][0]

    def _referred(self, project: Row, dataset: Row) -> Any:
        row = dataset if self.mapping.datasets is not None else project
        return row[self._named]  # type: ignore[index]

    def _embedded(self, owner: Owner, referred: Any) -> str:
        project, dataset = owner[0].values, owner[1].values
        repeated = (project["id"], project["name"], dataset["id"], dataset["name"])
        digest: tuple[Any, ...] = (repeated, referred, self.outline.label_digest)
        digest += (owner[0].facts,) if owner[0].facts else ()
        return hashed((digest, owner[0].folder) if owner[0].folder else digest)

    # --- nodes ---------------------------------------------------------------------------------------

    def nodes(self, index: int) -> tuple[Section, Mended]:
        """The nodes of a section without labels and counts, and the number of mended values."""
        section = self.outline.sections[index]
        rows = section.rows()
        projects, mended = self._projects([row for row, _ in rows])
        owners = [node for node, (_, own) in zip(projects, rows, strict=True) for _ in own]
        datasets, more = self._datasets(owners, list(chain.from_iterable(own for _, own in rows)))
        remaining = iter(datasets)
        for node, (_, own) in zip(projects, rows, strict=True):
            node.datasets = [next(remaining) for _ in own]
        return Section(section.kind, projects), more if section.kind == "datasets" else mended + more

    def _columns(
        self, logical: str, fields: Sequence[str], rows: Sequence[Row], names: Sequence[str]
    ) -> tuple[list[Any], Mended]:
        """The ruled values of rows, for each the values of `names`."""
        if not rows:
            return [], Mended()
        columns: dict[str, Any] = dict(zip(fields, zip(*rows, strict=True), strict=True))
        ruled, mended = self._rule(columns, names, len(rows), self.mapping.keep_query.get(logical, {}))
        return list(zip(*(ruled[name] for name in names), strict=True)), mended

    def _projects(self, rows: Sequence[Row]) -> tuple[list[ProjectNode], Mended]:
        if self.mapping.projects is None:
            blank: dict[str, Any] = dict.fromkeys(PROJECT_FIELDS)
            return [
                self._trained(ProjectNode(SOLE_KEY, {**blank, "id": key, "name": name})) for key, name in rows
            ], Mended()
        values, mended = self._columns("projects", self.outline.project_fields, rows, PROJECT_FIELDS)
        keys = map(self.outline.project_key, rows)
        nodes = [
            self._trained(ProjectNode(key, dict(zip(PROJECT_FIELDS, own, strict=True))))
            for key, own in zip(keys, values, strict=True)
        ]
        if self._read is not None:
            place = list(self.outline.project_fields).index("document")
            for node, row in zip(nodes, rows, strict=True):
                document = self._read(row[place])
                node.label_colors, node.facts = document.labels, document.facts
        if self._labels_by_id:
            place, named = (list(self.outline.label_fields).index(field) for field in ("id", "name"))
            for node in nodes:
                rows_of_labels = chain.from_iterable(self.outline.labels.of(node.key))
                names = {row[place]: row[named] for row in rows_of_labels}
                node.facts = {**node.facts, "labels": names}
        return nodes, mended

    def _trained(self, project: ProjectNode) -> ProjectNode:
        """The project with its folder and its classes."""
        project.folder, project.classes = self.training.get(project.key, ("", ()))
        return project

    def project_nodes(self) -> Iterator[ProjectNode]:
        """The nodes of all projects in publication order, without labels and counts."""
        for part in self.outline.parts:
            section, _ = self.nodes(part if isinstance(part, int) else part[0])
            yield from section.projects

    def _datasets(self, owners: Sequence[ProjectNode], rows: Sequence[Row]) -> tuple[list[DatasetNode], Mended]:
        nodes = []
        if self.mapping.datasets is None:
            blank: dict[str, Any] = dict.fromkeys(DATASET_FIELDS)
            for owner in owners:
                key = owner.values["id"]
                nodes.append(
                    DatasetNode(owner.key, {**blank, "id": key, "project_id": key, "name": owner.values["name"]})
                )
            return nodes, Mended()
        columns, mended = self._columns("datasets", self.outline.dataset_fields, rows, _DATASET_OWN)
        for owner, row, own in zip(owners, rows, columns, strict=True):
            values = (*own[:_PROJECT_ID], owner.values["id"], *own[_PROJECT_ID:])
            nodes.append(
                DatasetNode(self.outline.dataset_key(row), dict(zip(DATASET_FIELDS, values, strict=True)))
            )
        return nodes, mended

    def labels(self, project: Key | None) -> Iterator[tuple[list[tuple[Any, ...]], Mended]]:
        """The values of `LABEL_FIELDS` of the labels that a project lists, with the number of mended values.

        Yields some labels at a time.
        """
        for some in self.outline.labels.of(project):
            yield self._columns("labels", self.outline.label_fields, some, LABEL_FIELDS)

    def mended_labels(self, project: Key | None) -> Mended:
        """The number of mended values in the labels that a project lists."""
        return sum((mended for _, mended in self.labels(project)), Mended())


class TableLabels(Collection[LabelNode]):
    """The labels that a project lists, from the table of labels, with their counts."""

    def __init__(self, builder: TreeBuilder, project: Key, counted: Mapping[str, int]) -> None:
        self._builder, self._project, self._counted = builder, project, counted

    def __len__(self) -> int:
        return self._builder.outline.labels.count(self._project)

    def __iter__(self) -> Iterator[LabelNode]:
        for some, _ in self._builder.labels(self._project):
            for own in some:
                values = dict(zip(LABEL_FIELDS, own, strict=True))
                yield LabelNode(values, self._counted.get(values["name"], 0))

    def __contains__(self, item: object) -> bool:
        return any(item == node for node in self)


class NamedLabels(Collection[LabelNode]):
    """The labels of a project without a table of labels: the names that are counted, and those in `colors`, which
    the document of the project declares."""

    def __init__(self, counted: Mapping[str, int], colors: Mapping[str, str | None]) -> None:
        self._counted, self._colors = counted, colors
        self._unused = sorted(name for name in colors if name not in counted)

    def __len__(self) -> int:
        return len(self._counted) + len(self._unused)

    def __iter__(self) -> Iterator[LabelNode]:
        for name, count in merge(in_order(self._counted), ((name, 0) for name in self._unused)):
            yield LabelNode({"id": None, "name": name, "color": self._colors.get(name)}, count)

    def __contains__(self, item: object) -> bool:
        return any(item == node for node in self)
