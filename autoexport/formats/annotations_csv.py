"""Encodes `annotations.csv`: a row for each annotation, with its image, dataset and project."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat

from autoexport.config.options import Option
from autoexport.formats.block_file import BlockFile
from autoexport.formats.contract import SHAPES, FormatOptions, Output
from autoexport.formats.csv_cells import CsvCells, byte_order_mark, cell_at, documents
from autoexport.model.blocks import Block
from autoexport.model.tree import DatasetNode, ProjectNode, Tree

COLUMNS = (
    "annotation_id", "image_id", "filename", "project_id", "project_name", "dataset_id", "dataset_name", "split",
    "type", "label", "label_id", "confidence", "x_min", "y_min", "x_max", "y_max", "polygon", "is_auto_generated",
    "is_verified", "model_id", "created_at", "updated_at",
)  # fmt: skip
_OWN = COLUMNS[COLUMNS.index("type") :]
_DOCUMENTS = {"polygon", "points", "mask", "attributes"}
"""The columns of JSON."""


class AnnotationsTable(BlockFile):
    """A row for each annotation, in the order of the tree. Images without annotations have no row.

    `shapes` are the fields beyond the usual ones that annotations have; they are the last columns.
    """

    file_name = "annotations.csv"

    def __init__(self, guard: bool = True, bom: bool = False, shapes: Sequence[str] = ()) -> None:
        self.guard = guard
        self._shapes = shapes
        self._cells = CsvCells(guard)
        self.bom = bom

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """The rows of a block; no bytes if no image of it has an annotation."""
        if not any(block.spans):
            return b"", 0
        ids, guarded = self._cells.cells(block.annotations["id"])
        images, of_images = self._images(block, project, dataset)
        columns: list[Iterable[bytes]] = [ids, chain.from_iterable(map(repeat, images, block.spans))]
        for name in (*_OWN, *self._shapes):
            if name in _DOCUMENTS:
                columns.append(documents(block.annotations[name]))
            else:
                cells, more = self._cells.cells(block.annotations[name])
                columns.append(cells)
                guarded += more
        rows = b"\n".join(map(b",".join, zip(*columns, strict=True))) + b"\n"
        return rows, guarded + of_images

    def _images(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[list[bytes], int]:
        """The cells from `image_id` to `split` of each image, and the number of guarded ones in all rows."""
        above = [self._cells.cells([node.values[name]]) for node in (project, dataset) for name in ("id", "name")]
        guarded = sum(block.spans) * sum(number for _, number in above)
        columns = {}
        for name in ("id", "filename", "split"):
            columns[name], more = self._cells.cells(block.images[name], block.json_cells.get(name))
            if more:
                guarded += self._guarded_rows(block.images[name], block.spans)
        parents = [b",".join(cell for (cell,), _ in above)] * len(block.spans)
        cells = zip(columns["id"], columns["filename"], parents, columns["split"], strict=True)
        return [*map(b",".join, cells)], guarded

    def _guarded_rows(self, column: Sequence[object], spans: Sequence[int]) -> int:
        return sum(span * self._cells.cells([value])[1] for value, span in zip(column, spans, strict=True))

    def image_at(self, body: bytes, offset: int) -> str:
        """The second cell of the row."""
        return cell_at(body, offset, COLUMNS.index("image_id"))

    def header(self) -> bytes:
        """The names of the columns."""
        return byte_order_mark(self.bom) + ",".join((*COLUMNS, *self._shapes)).encode() + b"\n"

    def rows(self, tree: Tree) -> int:
        """Rows without the header."""
        return tree.counts.annotations


def _make(options: FormatOptions) -> list[AnnotationsTable]:
    return [AnnotationsTable(options["csv_guard"], options["csv_bom"], options.get(SHAPES, ()))]


OUTPUT = Output(
    switch=Option("export_annotations_csv", default=False),
    options=(),
    file_names=(AnnotationsTable.file_name,),
    make=_make,
)
