"""Merges a stream of images and one of annotations into blocks of rows, a piece at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

from autoexport.model.blocks import BlockRows, FlatRows, Range
from autoexport.model.catalog import Scalar
from autoexport.sources.block_size import BlockSize
from autoexport.sources.partitions import lengths

Row = Sequence[Scalar]

_ANNOTATION_BYTES = 400  # JSON of a row without its polygon, in the first application


@dataclass(slots=True)
class Stream:
    """Rows in partitions. Each row is the key of its parent, then the fields.

    The parent of an image is its dataset, that of an annotation its image. `wide_column` is the index of a field
    whose values may be long. `leading` is the number of columns of the key: two if annotations have the keys of
    dataset and image.
    """

    fields: list[str]
    parts: AsyncIterator[Sequence[Row]]
    wide_column: int | None = None
    leading: int = 1


async def gather(
    images: Stream,
    annotations: Stream | None,
    ranges: Sequence[Range],
    size: BlockSize,
    duplicate_error: Callable[[Scalar], Exception],
) -> AsyncIterator[BlockRows]:
    """Yield the images of a stream, with their annotations, as blocks in pieces, or several small blocks at once.

    Both streams have the same order. `size` counts the blocks. No block extends beyond the end of one of the
    `ranges`. Raises the `duplicate_error` of a key that two neighbouring images share.
    """
    cursor = AnnotationCursor(annotations)
    assembler = BlockAssembler(images.fields, cursor, ranges, size, duplicate_error)
    key_index = assembler.key_index
    async for rows in images.parts:
        for row in rows:
            if (piece := assembler.add(row)) is not None:
                yield piece
                del piece  # Else it would stay in memory while the next partition is fetched.
            owner = row[key_index] if cursor.leading == 1 else (row[0], row[key_index])
            if not cursor.take_buffered(owner):
                await cursor.take(owner)
    if (piece := assembler.finish()) is not None:
        yield piece


class BlockAssembler:
    """Collects images, and decides before which image a piece or a block ends.

    `add` one image, then take its annotations from the cursor, then `add` the next.
    """

    def __init__(
        self,
        fields: list[str],
        annotations: AnnotationCursor,
        ranges: Sequence[Range],
        size: BlockSize,
        duplicate_error: Callable[[Scalar], Exception],
    ) -> None:
        self.key_index = fields.index("id") + 1
        self._fields = fields
        self._annotations = annotations
        self._range_ends = _RangeEnds(ranges) if ranges else None
        self._size = size
        self._duplicate_error = duplicate_error
        self._previous: tuple[Scalar, Scalar] | None = None
        self._rows: list[Row] = []
        self._members: list[tuple[Any, int]] = []
        self._piece_limit = annotations.json_bytes + size.piece_bytes
        self._begin_block()

    def _begin_block(self) -> None:
        # The limits are totals of the cursor, so that an image costs a comparison and no addition.
        self._begun = len(self._rows)
        most_images, most_bytes = self._size.limits()
        self._full = self._begun + most_images
        self._block_limit = self._annotations.json_bytes + most_bytes

    def add(self, row: Row) -> BlockRows | None:
        """Add an image. If a piece ends before it, return that piece."""
        dataset, key = image = row[0], row[self.key_index]
        if image == self._previous and key is not None:
            raise self._duplicate_error(key)
        self._previous = image
        range_ends = self._range_ends is not None and self._range_ends.passed(dataset, key)
        piece, rows = None, self._rows
        if rows:
            json_bytes = self._annotations.json_bytes
            full = len(rows) >= self._full or json_bytes >= self._block_limit
            block_ends = full or range_ends or dataset != rows[-1][0]
            if block_ends:
                self._end_block()
            if json_bytes >= self._piece_limit or (block_ends and len(rows) >= self._size.together):
                piece = self._cut(block_ends)
        self._rows.append(row)
        return piece

    def finish(self) -> BlockRows | None:
        """Return the last piece; None if there was no image."""
        if not self._rows:
            return None
        self._end_block()
        return self._cut(True)

    def _end_block(self) -> None:
        self._members.append((self._rows[-1][0], len(self._rows) - self._begun))
        self._size.blocks += 1
        self._begin_block()

    def _cut(self, block_ends: bool) -> BlockRows:
        rows, self._rows = self._rows, []
        if not block_ends:
            self._members.append((rows[-1][0], len(rows) - self._begun))
        members, self._members = self._members, []
        self._begun, self._full = 0, self._full - len(rows)
        self._piece_limit = self._annotations.json_bytes + self._size.piece_bytes
        datasets, values = _flat(rows)
        spans, annotations = self._annotations.taken()
        return BlockRows(
            dataset=datasets[0],
            images=FlatRows(self._fields, values),
            annotations=FlatRows(self._annotations.fields, annotations),
            spans=spans,
            ends=block_ends,
            members=members if len(members) > 1 else (),
        )


class _RangeEnds:
    """Tells where, in the stream of images, one range ends and the next begins."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        self._ranges = ranges
        self._index = 0

    def passed(self, dataset: Any, image: Any) -> bool:
        """Whether this image is in a later range than the image before it. Must be called for every image."""
        before = self._index
        while self._index < len(self._ranges):
            item = self._ranges[self._index]
            if item.dataset == dataset and (item.to is None or image <= item.to):
                break
            self._index += 1
        return self._index != before


class AnnotationCursor:
    """A position in the stream of annotations, from which each image takes its own in turn.

    `json_bytes` is about how many bytes of JSON all taken annotations have. The rows of the current partition lie
    flat in `_values`; `_runs` counts its neighbouring rows of one image.
    """

    def __init__(self, stream: Stream | None) -> None:
        self.json_bytes = 0.0
        self.fields = stream.fields if stream is not None else []
        self.leading = stream.leading if stream is not None else 1
        self._wide_column = stream.wide_column if stream is not None else None
        self._parts = stream.parts if stream is not None else None
        self._spans: list[int] = []
        self._earlier: list[Scalar] = []  # values that were taken from earlier partitions
        self._values: list[Scalar] = []
        self._runs: list[tuple[Any, int]] = []
        self._row_index = self._run_index = 0
        self._row_bytes = 0.0

    def take_buffered(self, image: Any) -> bool:
        """As `take`, if all annotations of the image are in the current partition. False if they may not be."""
        if self._run_index + 1 >= len(self._runs):
            return False
        key, length = self._runs[self._run_index]
        self._spans.append(self._advance(length) if key == image else 0)
        return True

    async def take(self, image: Any) -> None:
        """Take the annotations of the next image, which may have none."""
        count = 0
        while self._run_index < len(self._runs) or await self._fetch():
            key, length = self._runs[self._run_index]
            if key != image:
                break
            count += self._advance(length)
            if self._run_index < len(self._runs):
                break
        self._spans.append(count)

    def _advance(self, length: int) -> int:
        self.json_bytes += self._row_bytes * length
        self._row_index += length
        self._run_index += 1
        return length

    def taken(self) -> tuple[list[int], list[Scalar]]:
        """Release what was taken since the last call: annotations per image, and the values of all."""
        end = self._row_index * len(self.fields)
        values, self._earlier = self._earlier, []
        values += self._values[:end]
        del self._values[:end]
        self._row_index = 0
        spans, self._spans = self._spans, []
        return spans, values

    async def _fetch(self) -> bool:
        """Fetch the next partition and find the runs of rows that belong to one image. False at the end."""
        if self._parts is None:
            return False
        try:
            rows = await anext(self._parts)
        except StopAsyncIteration:
            self._parts = None
            return False
        # By now all of it is taken. In place, because the annotations of one image may fill many partitions.
        self._earlier += self._values
        # The rows are given up at once: they are objects that the garbage collector would traverse.
        keys, self._values = _flat(rows, self.leading)
        self._runs = [(key, len(list(run))) for key, run in groupby(keys)]
        self._row_index = self._run_index = 0
        wide_bytes = (
            lengths(self._values[self._wide_column :: len(self.fields)]) if self._wide_column is not None else 0
        )
        self._row_bytes = _ANNOTATION_BYTES + wide_bytes / len(rows)
        return True


def _flat(rows: Sequence[Row], leading: int = 1) -> tuple[list[Any], list[Scalar]]:
    """Split rows into their leading keys and all other values, row after row."""
    values: list[Scalar] = list(chain.from_iterable(rows))
    width = len(rows[0])
    keys: list[Any] = values[::width]
    del values[::width]
    if leading == 2:
        keys = list(zip(keys, values[:: width - 1], strict=True))
        del values[:: width - 1]
    return keys, values
