"""Encodes `images.parquet` and `annotations.parquet`: a row for each image and for each annotation.

Each is one file of row groups. A row group that holds the same rows as before is copied from the published file.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import accumulate, pairwise
from typing import Any

from autoexport.config.options import Option
from autoexport.formats.block_file import BlockFile
from autoexport.formats.contract import SHAPES, Copied, FormatOptions, Output, Readable, RowRange
from autoexport.formats.parquet_codec import Codec, fingerprint, require
from autoexport.formats.parquet_columns import (
    DISTINCT,
    DOCUMENTS,
    IMAGE_SCHEMA,
    annotation_columns,
    annotation_schema,
    image_columns,
    texts,
)
from autoexport.formats.parquet_footer import MAGIC, RowGroup
from autoexport.formats.parquet_rows import Frames, Published, Rows, entries, frame, rows_in
from autoexport.formats.row_groups import cuts, marks
from autoexport.model.blocks import Block
from autoexport.model.tree import DatasetNode, ProjectNode, Tree


class ParquetFile(BlockFile):
    """A Parquet file. Its blocks are rendered to frames of rows, and `groups` encodes these."""

    def __init__(
        self,
        file_name: str,
        schema: Mapping[str, str],
        columns: Callable[[Block, ProjectNode, DatasetNode], Iterable[Sequence[Any]]],
        *,
        of_annotations: bool,
    ) -> None:
        self.file_name = file_name
        self._columns = columns
        self._of_annotations = of_annotations
        self._schema = schema
        require()

    @cached_property
    def _codec(self) -> Codec:
        return Codec(self._schema, DISTINCT)

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """The frame of the rows of a block; no bytes if it has no rows."""
        counts = block.spans if self._of_annotations else [1] * len(block.spans)
        if not any(counts):
            return b"", 0
        found = marks(texts(block.images["id"]), counts, _sizes(block) if self._of_annotations else None)
        return frame(sum(counts), found, self._codec.rows(self._columns(block, project, dataset))), 0

    def measure(self, body: bytes) -> int:
        """The number of rows in a frame."""
        return rows_in(body) if body else 0

    def image_at(self, body: bytes, offset: int) -> str:
        """Empty: no byte of the file belongs to one image."""
        return ""

    def rows(self, tree: Tree) -> int:
        """The number of rows."""
        return tree.counts.annotations if self._of_annotations else tree.counts.images

    def encoder(self) -> tuple[str, str]:
        """The name of the encoder, and its fingerprint."""
        return "Parquet", fingerprint()

    def groups(self, ranges: Iterable[RowRange], fresh: Readable, published: Readable) -> Iterator[bytes | Copied]:
        """The file of these rows in order: bytes, and row groups of the published file."""
        old = Published(published, self._codec)
        rows = Rows(ranges, Frames(fresh, self._codec), old)
        found = rows.marks()
        yield MAGIC
        groups: list[RowGroup] = []
        checksums: list[int] = []
        for begin, end in pairwise([0, *cuts(found, rows.total)]):
            kept = rows.published_group(begin, end)
            if kept is None:
                data, group = self._codec.encode(rows.tables(begin, end))
                checksums.append(zlib.crc32(data))
                yield data
            else:
                offset, group = old.groups[kept]
                checksums.append(old.checksums[kept])
                yield Copied(offset, group.length, checksums[-1])
            groups.append(group)
        yield self._codec.empty().written(groups, entries(found, checksums))


def _sizes(block: Block) -> list[int]:
    """The bytes of the documents of each image, such as polygons: no other values are large."""
    columns = [block.annotations[name] for name in DOCUMENTS if name in block.annotations]
    lengths = [sum(len(text) for text in row if text) for row in zip(*columns, strict=True)]
    return [sum(lengths[begin:end]) for begin, end in pairwise([0, *accumulate(block.spans)])]


def _make(options: FormatOptions) -> list[ParquetFile]:
    shapes = options.get(SHAPES, ())
    return [
        ParquetFile("images.parquet", IMAGE_SCHEMA, image_columns, of_annotations=False),
        ParquetFile(
            "annotations.parquet",
            annotation_schema(shapes),
            partial(annotation_columns, shapes),
            of_annotations=True,
        ),
    ]


OUTPUT = Output(
    switch=Option("export_parquet", default=False),
    options=(),
    file_names=("images.parquet", "annotations.parquet"),
    make=_make,
)
