"""Builds trees from plain records, without a database, cut into blocks wherever a test likes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

from autoexport.formats.contract import Format, RowFormat
from autoexport.model.blocks import Block, BlockRows, FlatRows
from autoexport.model.catalog import Column, Scalar, Table
from autoexport.model.mapping import (
    DATASET_FIELDS,
    IMAGE_FIELDS,
    LABEL_FIELDS,
    PROJECT_FIELDS,
    BoxFormat,
    BoxReading,
    Mapping,
    TableMapping,
)
from autoexport.model.tree import DatasetNode, LabelNode, ProjectNode, Tree
from autoexport.values.block import render, ruled_parents

Record = dict[str, Any]
TIMESTAMP = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)
_ANY_TABLE = TableMapping(Table("any", None, "table", (Column("id", "integer"),)), {})


def mapping(box: BoxReading | None = "corners", box_format: BoxFormat | None = None) -> Mapping:
    """A mapping in which only the reading of boxes matters."""
    return Mapping(_ANY_TABLE, _ANY_TABLE, _ANY_TABLE, _ANY_TABLE, _ANY_TABLE, box=box, box_format=box_format)


@dataclass
class Dataset:
    """A dataset and its images; each image brings its annotations under `annotations`."""

    values: Record
    images: list[Record] = field(default_factory=list)


@dataclass
class Project:
    """A project, its labels and its datasets."""

    values: Record
    labels: list[Record] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)


def _flat(rows: Sequence[Record]) -> FlatRows:
    names = list(dict.fromkeys(name for row in rows for name in row if name != "annotations"))
    values: list[Scalar] = [row.get(name) for row in rows for name in names]
    return FlatRows(names, values)


def block_rows(images: Sequence[Record], dataset: Any = 1) -> BlockRows:
    """The rows of a block as a snapshot delivers them: only the fields that some record has."""
    annotations = [annotation for image in images for annotation in image.get("annotations", [])]
    spans = [len(image.get("annotations", [])) for image in images]
    return BlockRows(dataset, _flat(images), _flat(annotations), spans)


def rendered(images: Sequence[Record], read: Mapping | None = None) -> Block:
    """The block of these images."""
    return render(block_rows(images), read or mapping())


def _parent(values: Record, fields: Sequence[str]) -> dict[str, Any]:
    ruled, _ = ruled_parents({name: [values.get(name)] for name in fields}, fields, 1, {})
    return {name: column[0] for name, column in ruled.items()}


@dataclass
class Memory:
    """A file in memory, for a `RowFormat`."""

    content: bytes

    @property
    def length(self) -> int:
        """In bytes."""
        return len(self.content)

    def read(self, offset: int, length: int) -> bytes:
        """A part of it."""
        return self.content[offset : offset + length]


@dataclass
class Built:
    """A tree and its blocks, each with its project and dataset."""

    tree: Tree
    blocks: list[tuple[Block, ProjectNode, DatasetNode]]

    def bodies(self, output: Format) -> list[bytes]:
        """The bytes of every block in a format."""
        return [output.block(block, project, dataset)[0] for block, project, dataset in self.blocks]

    def written(self, output: Format) -> bytes:
        """The whole file."""
        bodies = self.bodies(output)
        if isinstance(output, RowFormat):
            ranges = [(True, 0, sum(map(output.measure, bodies)))]
            pieces = output.groups(ranges, Memory(b"".join(bodies)), Memory(b""))
            return b"".join(piece for piece in pieces if isinstance(piece, bytes))
        pieces = output.assemble(self.tree)
        return b"".join(piece if isinstance(piece, bytes) else bodies[piece.block] for piece in pieces)

    def guarded(self, output: Format) -> int:
        """The guarded cells of the whole file."""
        return output.guarded(self.tree) + sum(output.block(*place)[1] for place in self.blocks)


def built(projects: Sequence[Project], sizes: Iterator[int] | None = None) -> Built:
    """The tree of these projects; `sizes` says how many images the next block has, all of them by default."""
    tree = Tree(TIMESTAMP, [], sum(len(project.labels) for project in projects))
    whole = Built(tree, [])
    sizes = sizes or repeat(1_000_000)
    for project in projects:
        node = ProjectNode(project.values["id"], _parent(project.values, PROJECT_FIELDS))
        node.labels = [LabelNode(_parent(label, LABEL_FIELDS)) for label in project.labels]
        for dataset in project.datasets:
            own = _parent(dataset.values, [name for name in DATASET_FIELDS if name != "project_id"])
            own["project_id"] = node.values["id"]
            below = DatasetNode(dataset.values["id"], {name: own[name] for name in DATASET_FIELDS})
            left = list(dataset.images)
            while left:
                size = next(sizes)
                # All blocks have the same fields: those that the database has.
                names = {name: None for image in dataset.images for name in image if name in IMAGE_FIELDS}
                block = rendered([{**names, **image} for image in left[:size]])
                del left[:size]
                below.blocks.append(len(whole.blocks))
                below.counts.add(block.counts)
                whole.blocks.append((block, node, below))
            node.datasets.append(below)
            node.counts.add(below.counts)
        for label in node.labels:
            label.annotation_count = node.counts.labels.get(str(label.values["name"]), 0)
        tree.projects.append(node)
        tree.counts.add(node.counts)
    return whole


def sample() -> list[Project]:
    """Projects that show every kind of value: the golden files are made of them."""
    noon, aware = "2024-01-15 12:00:00", "2024-01-15T12:00:00.25+02:00"
    cat = {"id": 1, "label": "cat", "label_id": 1, "confidence": 0.98, "is_auto_generated": 1, "is_verified": 0}
    box = {"box_0": 1.0, "box_1": -2.5, "box_2": 640, "box_3": 1e16}
    first = {
        "id": "a-1", "filename": "=cmd.jpg", "original_filename": 'say "cheese", 花.jpg', "file_path": "C:\\a\tb",
        "width": 640, "height": 480, "format": "JPEG", "file_size": 2**53 + 1, "split": "training",
        "status": "dataset", "is_labeled": 1, "is_auto_labeled": 0, "is_verified": None,
        "created_at": noon, "updated_at": aware,
        "annotations": [
            {**cat, **box, "model_id": "yolo", "created_at": noon},
            {**cat, "id": 2, "label": "a dog", "polygon": "[[1, 2.5], [3, 4]]", "updated_at": "0000-00-00"},
            {**cat, "id": 3, **box, "polygon": '[{"x": 1, "y": 2, "tag": "a:b,\\"c"}, [], {}]'},
            {"id": 4},
        ],
    }  # fmt: skip
    second = {"id": "a-2", "filename": "", "file_path": "-1.5", "width": float("inf"), "split": "spare"}
    third = {
        "id": "a-3",
        "filename": "b.jpg",
        "created_at": 1705312800,
        "annotations": [{"id": 9, "label": "cat"}],
    }
    labels: list[Record] = [
        {"id": 1, "name": "cat", "color": "#ff0000"},
        {"id": 2, "name": "@dog"},
        {"id": 3, "name": None},
    ]
    return [
        Project(
            {"id": 1, "name": "+Tiere\r\n\u2028", "project_type": "Object Detection", "created_at": noon},
            labels,
            [
                Dataset(
                    {"id": "d1", "name": "day", "description": "", "updated_at": aware}, [first, second, third]
                ),
                Dataset({"id": "d2", "name": "=night", "description": "+49 170"}),
            ],
        ),
        Project({"id": 2, "name": "leer", "description": "tab\there"}),
    ]
