"""Encodes `projects.csv`, `datasets.csv` and `images.csv`.

Text and dates are quoted, numbers are bare, null is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autoexport.config.options import Option
from autoexport.formats.contract import Format, FormatOptions, Output
from autoexport.formats.csv_cells import byte_order_mark, cell_at, cells_of
from autoexport.model.blocks import Block, BlockRef
from autoexport.model.tree import DatasetNode, ProjectNode, Tree
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

_SPLITS = ("train", "val", "test", "unassigned")
_LIST_UNITS = 32_766
"""The longest list in a cell, in UTF-16 code units. Excel holds 32,767 ("Excel specifications and limits"), of
which one may be the `'` of a guard. Python's `csv` reads 131,072 characters."""

_PARENT_OF_IMAGE = ("project_id", "project_name", "dataset_id", "dataset_name")


class _Table:
    """The common part of the three tables: the header, the cells and the count of guarded cells."""

    file_name = ""
    has_blocks = False
    separator = b""
    columns: tuple[str, ...] = ()

    def __init__(self, guard: bool = True, bom: bool = False) -> None:
        self.guard = guard
        self.bom = bom

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """No bytes: a small table has no blocks."""
        return b"", 0

    def image_at(self, body: bytes, offset: int) -> str:
        """The first cell of the row."""
        return cell_at(body, offset, 0)

    def assemble(self, tree: Tree) -> Iterator[bytes | BlockRef]:
        """The header and the rows."""
        yield self._header()
        for row in self._rows(tree):
            yield self._line(row)[0]

    def guarded(self, tree: Tree) -> int:
        """The number of guarded cells in the rows."""
        return sum(self._line(row)[1] for row in self._rows(tree))

    def _header(self) -> bytes:
        return byte_order_mark(self.bom) + ",".join(self.columns).encode() + b"\n"

    def _rows(self, tree: Tree) -> Iterator[Mapping[str, Any]]:
        return iter(())

    def _line(self, row: Mapping[str, Any]) -> tuple[bytes, int]:
        cells, guarded = self._cells([row[name] for name in self.columns])
        return b",".join(cells) + b"\n", guarded

    def _cells(self, column: Sequence[Any], json_cells: list[bytes] | None = None) -> tuple[list[bytes], int]:
        return cells_of(column, self.guard, json_cells)


class ProjectsTable(_Table):
    """A row for each project."""

    file_name = "projects.csv"
    columns = PROJECT_COLUMNS

    def _rows(self, tree: Tree) -> Iterator[Mapping[str, Any]]:
        for project in tree.projects:
            yield {
                **project.values,
                "project_id": project.values["id"],
                "project_name": project.values["name"],
                "dataset_count": len(project.datasets),
                "image_count": project.counts.images,
                "labeled_image_count": project.counts.labeled,
                "annotation_count": project.counts.annotations,
                "label_count": len(project.labels),
                "labels": _joined(_names(project)),
            }

    def rows(self, tree: Tree) -> int:
        """Rows without the header."""
        return len(tree.projects)


def _names(project: ProjectNode) -> list[str]:
    return [str(label.values["name"]) for label in project.labels if label.values["name"] is not None]


def _joined(names: Sequence[str]) -> str:
    """The names in one cell. A list that is too long ends with an ellipsis, after a whole name."""
    whole = "; ".join(names)
    if _units(whole) <= _LIST_UNITS:
        return whole
    shown: list[str] = []
    units_left = _LIST_UNITS - len("…")
    for name in names:
        units_left -= _units(name) + len("; ")
        if units_left < 0:
            break
        shown.append(name)
    return "; ".join([*shown, "…"])


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


class DatasetsTable(_Table):
    """A row for each dataset."""

    file_name = "datasets.csv"
    columns = DATASET_COLUMNS

    def _rows(self, tree: Tree) -> Iterator[Mapping[str, Any]]:
        for project in tree.projects:
            for dataset in project.datasets:
                splits = dataset.counts.splits
                yield {
                    **dataset.values,
                    "dataset_id": dataset.values["id"],
                    "dataset_name": dataset.values["name"],
                    "project_id": project.values["id"],
                    "project_name": project.values["name"],
                    "image_count": dataset.counts.images,
                    **{f"{word}_count": splits.get(word, 0) for word in _SPLITS},
                    "labeled_image_count": dataset.counts.labeled,
                    "annotation_count": dataset.counts.annotations,
                }

    def rows(self, tree: Tree) -> int:
        """Rows without the header."""
        return sum(len(project.datasets) for project in tree.projects)


class ImagesTable(_Table):
    """A row for each image, in the order of the tree, with the names of its dataset and project."""

    file_name = "images.csv"
    columns = IMAGE_COLUMNS
    has_blocks = True

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """The rows of a block."""
        length = len(block.spans)
        above = [self._cells([node.values[name]]) for node in (project, dataset) for name in ("id", "name")]
        guarded = length * sum(number for _, number in above)
        columns = []
        for name in IMAGE_COLUMNS:
            if name == _PARENT_OF_IMAGE[0]:
                # These columns are neighbours and equal in all rows, so one cell holds them all.
                columns.append([b",".join(cell for (cell,), _ in above)] * length)
            elif name == "annotation_count":
                columns.append(encoded(block.spans))
            elif name not in _PARENT_OF_IMAGE:
                field = "id" if name == "image_id" else name
                cells, more = self._cells(block.images[field], block.json_cells.get(field))
                columns.append(cells)
                guarded += more
        return b"\n".join(map(b",".join, zip(*columns, strict=True))) + b"\n", guarded

    def assemble(self, tree: Tree) -> Iterator[bytes | BlockRef]:
        """The header, then the blocks of all datasets."""
        yield self._header()
        for project in tree.projects:
            for dataset in project.datasets:
                for block in dataset.blocks:
                    yield BlockRef(block)

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
