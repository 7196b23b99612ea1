"""Encodes `projects.csv`, `datasets.csv` and `images.csv`.

Text and dates are quoted, numbers are bare, null is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, repeat
from operator import add
from typing import Any

from autoexport.config.options import Option
from autoexport.formats.block_file import BlockFile
from autoexport.formats.contract import Format, FormatOptions, Output, Owner
from autoexport.formats.csv_cells import CsvCells, byte_order_mark, cell_at, joined
from autoexport.model.blocks import Block, BlockRef, Guarded
from autoexport.model.mapping import DATASET_FIELDS, PROJECT_FIELDS
from autoexport.model.tree import SPLITS, DatasetNode, ProjectNode, Section, Tree
from autoexport.values.scalars import encoded

PROJECT_COLUMNS = (
    "project_id", "project_name", "dataset_count", "image_count", "created_at", "updated_at", "description",
    "project_type", "labeled_image_count", "annotation_count", "label_count", "labels",
)  # fmt: skip
DATASET_COLUMNS = (
    "dataset_id", "dataset_name", "project_id", "project_name", "image_count", "train_count", "val_count",
    "test_count", "unassigned_count", "labeled_image_count", "annotation_count", "description", "created_at",
    "updated_at",
)  # fmt: skip
IMAGE_COLUMNS = (
    "image_id", "filename", "file_path", "project_id", "project_name", "dataset_id", "dataset_name", "width",
    "height", "file_size", "split", "annotation_count", "is_labeled", "original_filename", "format", "status",
    "is_auto_labeled", "is_verified", "created_at", "updated_at",
)  # fmt: skip

_PARENT_OF_IMAGE = ("project_id", "project_name", "dataset_id", "dataset_name")


class _Table(BlockFile):
    """The common part of the three tables: the header and the cells."""

    columns: tuple[str, ...] = ()

    def __init__(self, guard: bool = True, bom: bool = False) -> None:
        self.guard = guard
        self._cells = CsvCells(guard)
        self.bom = bom

    def image_at(self, body: bytes, offset: int) -> str:
        """The first cell of the row."""
        return cell_at(body, offset, 0)

    def header(self) -> bytes:
        """The names of the columns."""
        return byte_order_mark(self.bom) + ",".join(self.columns).encode() + b"\n"


class _SmallTable(_Table):
    """A table without blocks: each section has its rows."""

    has_blocks = False

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """No bytes: a small table has no blocks."""
        return b"", 0

    def section(self, section: Section) -> Iterator[bytes | BlockRef | Guarded]:
        """The rows of a section."""
        columns, guarded = [], 0
        for column in self._columns(section):
            cells, more = self._cells.cells(column)
            columns.append(cells)
            guarded += more
        if columns and columns[0]:
            yield b"\n".join([*map(b",".join, zip(*columns, strict=True)), b""])
            yield Guarded(guarded)

    def guarded(self, tree: Tree) -> int:
        """The number of guarded cells in the rows."""
        pieces = (piece for project in tree.projects for piece in self.section(Section("projects", [project])))
        return sum(piece.cells for piece in pieces if isinstance(piece, Guarded))

    def _columns(self, section: Section) -> list[list[Any]]:
        """The values of a section, in the order of the columns."""
        return []


class ProjectsTable(_SmallTable):
    """A row for each project."""

    file_name = "projects.csv"
    columns = PROJECT_COLUMNS

    def _columns(self, section: Section) -> list[list[Any]]:
        projects = section.projects if section.kind != "datasets" else []
        of = {name: [project.values[name] for project in projects] for name in PROJECT_FIELDS}
        return [
            of["id"],
            of["name"],
            [len(project.datasets) for project in projects],
            [project.counts.images for project in projects],
            of["created_at"],
            of["updated_at"],
            of["description"],
            of["project_type"],
            [project.counts.labeled for project in projects],
            [project.counts.annotations for project in projects],
            [len(project.labels) for project in projects],
            [joined(_names(project)) for project in projects],
        ]

    def rows(self, tree: Tree) -> int:
        """Rows without the header."""
        return len(tree.projects)


def _names(project: ProjectNode) -> Iterator[str]:
    return (str(label.values["name"]) for label in project.labels if label.values["name"] is not None)


class DatasetsTable(_SmallTable):
    """A row for each dataset."""

    file_name = "datasets.csv"
    columns = DATASET_COLUMNS

    def _columns(self, section: Section) -> list[list[Any]]:
        projects = section.projects if section.kind != "head" else []
        datasets = [dataset for project in projects for dataset in project.datasets]
        of = {name: [dataset.values[name] for dataset in datasets] for name in DATASET_FIELDS}
        return [
            of["id"],
            of["name"],
            [project.values["id"] for project in projects for _ in project.datasets],
            [project.values["name"] for project in projects for _ in project.datasets],
            [dataset.counts.images for dataset in datasets],
            *([dataset.counts.splits.get(word, 0) for dataset in datasets] for word in SPLITS),
            [dataset.counts.labeled for dataset in datasets],
            [dataset.counts.annotations for dataset in datasets],
            of["description"],
            of["created_at"],
            of["updated_at"],
        ]

    def rows(self, tree: Tree) -> int:
        """Rows without the header."""
        return tree.count_datasets()


class ImagesTable(_Table):
    """A row for each image, in the order of the tree, with the names of its dataset and project."""

    file_name = "images.csv"
    columns = IMAGE_COLUMNS

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """The rows of a block."""
        (body,), (guarded,) = self.blocks(block, [len(block.spans)], [(project, dataset)])
        return body, guarded

    def blocks(
        self, block: Block, lengths: Sequence[int], owners: Sequence[Owner]
    ) -> tuple[list[bytes], list[int]]:
        """The rows of each block."""
        ends = list(accumulate(lengths))
        parts = list(map(slice, [0, *ends], ends))
        above, guarded_above = self._above(owners)
        guarded = [length * own for length, own in zip(lengths, guarded_above, strict=True)]
        columns = []
        for name in IMAGE_COLUMNS:
            if name == _PARENT_OF_IMAGE[0]:
                columns.append(list(chain.from_iterable(map(repeat, above, lengths))))
            elif name == "annotation_count":
                columns.append(encoded(block.spans))
            elif name not in _PARENT_OF_IMAGE:
                field = "id" if name == "image_id" else name
                cells, more = self._cells.cells(block.images[field], block.json_cells.get(field))
                columns.append(cells)
                if more:
                    own_guarded = (self._cells.cells(block.images[field][part])[1] for part in parts)
                    guarded = list(map(add, guarded, own_guarded))
        lines = list(map(b",".join, zip(*columns, strict=True)))
        return [b"\n".join([*lines[part], b""]) for part in parts], guarded

    def _above(self, owners: Sequence[Owner]) -> tuple[list[bytes], list[int]]:
        """For each block, the cells that all its rows repeat, joined, and the number of guarded ones.

        These columns are neighbours, so one text holds them all.
        """
        columns, guarded = [], [0] * len(owners)
        for index, name in ((0, "id"), (0, "name"), (1, "id"), (1, "name")):
            values = [owner[index].values[name] for owner in owners]
            cells, more = self._cells.cells(values)
            columns.append(cells)
            if more:
                guarded = [
                    number + self._cells.cells([value])[1] for number, value in zip(guarded, values, strict=True)
                ]
        return list(map(b",".join, zip(*columns, strict=True))), guarded

    def rows(self, tree: Tree) -> int:
        """Rows without the header."""
        return tree.counts.images


_TABLES = (ProjectsTable, DatasetsTable, ImagesTable)


def _make(options: FormatOptions) -> list[Format]:
    return [table(options["csv_guard"], options["csv_bom"]) for table in _TABLES]


OUTPUT = Output(
    switch=Option("export_csv", default=True),
    options=(Option("csv_guard", default=True), Option("csv_bom", default=False)),
    file_names=tuple(table.file_name for table in _TABLES),
    make=_make,
)
