"""Two streams in the same order, images and annotations, gathered into blocks of rows, in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

from autoexport.model.blocks import BlockRows, FlatRows, Range
from autoexport.model.catalog import Scalar
from autoexport.sources.partitions import lengths

Row = Sequence[Scalar]

BLOCK_IMAGES = 256
"""Images in a block, at most, of the first `DOUBLING` blocks."""

LEAST_BLOCK_IMAGES = 64
"""Images that a block may have in the smallest database."""

BLOCKS = 4_000
"""Beyond about so many blocks, larger ones are made rather than more. Each takes about 1 KB of memory in every
export, and the files are laid out block by block. But of 200,000 images with random keys, the rows of 40 changed
annotations take 0.4 s to read and render in blocks of 64, and 0.7 s in blocks of 256."""

BLOCK_BYTES = 1_000_000
"""About how many bytes of JSON a block may have before it is cut, of the first `DOUBLING` blocks."""

DOUBLING = 5_000
"""After each so many blocks those that follow may be twice as large. Measured with ten million images: 15,500
blocks instead of 39,000, and 98 MB instead of 125."""

PIECE_BYTES = 256_000
"""About how many bytes of JSON are read, handed over and rendered at a time; a larger block comes in pieces."""

_ANNOTATION_BYTES = 400  # of JSON, apart from the polygon: what the first application's rows take


@dataclass(slots=True)
class Stream:
    """Rows in partitions: first a key (of images, their dataset's; of annotations, their image's), then
    the fields. `heavy` is the place of a field whose values may be long. `leading` is how many columns a key
    takes: two where annotations have the keys of dataset and image."""

    fields: list[str]
    parts: AsyncIterator[Sequence[Row]]
    wide_column: int | None = None
    leading: int = 1


@dataclass(slots=True)
class BlockSize:
    """When a block is full: so many images, or about so many bytes of JSON; twice as many of both after each
    `doubling` blocks. From how many bytes on it comes in pieces. And how many `blocks` there are by now."""

    images: int
    json_bytes: int
    piece_bytes: int
    doubling: int
    blocks: int = 0

    @classmethod
    def of(cls, images: int, blocks: int) -> BlockSize:
        """As befits a database of so many images, with so many blocks there already."""
        return cls(block_images(images), BLOCK_BYTES, PIECE_BYTES, DOUBLING, blocks)

    def most(self) -> tuple[int, int]:
        """Images and bytes of JSON that the next block may have."""
        times = 1 << self.blocks // self.doubling
        return self.images * times, self.json_bytes * times


def block_images(images: int) -> int:
    """Images in a block, at most, of a database of so many images."""
    return min(max(images // BLOCKS, LEAST_BLOCK_IMAGES), BLOCK_IMAGES)


async def gather(
    images: Stream,
    annotations: Stream | None,
    ranges: Sequence[Range],
    size: BlockSize,
    duplicate_error: Callable[[Scalar], Exception],
) -> AsyncIterator[BlockRows]:
    """The images of a dataset, with their annotations, as blocks in pieces, which `size` counts; no block reaches
    over the end of one of the `ranges`. Raises what `twice` makes of a key that two neighbours have."""
    key_at = images.fields.index("id") + 1
    cursor = AnnotationCursor(annotations)
    rows: list[Row] = []
    spans: list[int] = []
    gone, gone_weight, weight = 0, 0.0, 0.0  # of this block: what its pieces before had; what these rows have
    most_images, most_bytes = size.most()
    ends = _Ends(ranges)
    before: tuple[Scalar, Scalar] | None = None
    async for part in images.parts:
        for row in part:
            key = row[key_at]
            if key is not None and (row[0], key) == before:
                raise duplicate_error(key)
            before = row[0], key
            passed = bool(ranges) and ends.passed(row[0], key)
            if rows:
                full = gone + len(rows) >= most_images or gone_weight + weight >= most_bytes
                last = passed or full or row[0] != rows[0][0]
                if last or weight >= size.piece_bytes:
                    gone, gone_weight = (0, 0.0) if last else (gone + len(rows), gone_weight + weight)
                    yield _piece(images, rows, cursor, spans, last)
                    rows, spans, weight = [], [], 0.0
                    size.blocks += last
                    most_images, most_bytes = size.most()
            rows.append(row)
            lighter = cursor.weight
            owner = key if cursor.leading == 1 else before
            span = cursor.take_at_hand(owner)
            spans.append(await cursor.take(owner) if span is None else span)
            weight += cursor.weight - lighter
    if rows:
        yield _piece(images, rows, cursor, spans, True)
        size.blocks += 1


class _Ends:
    """Tells where, in the stream of images, one range is over and the next begins."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        self._ranges = ranges
        self._at = 0

    def passed(self, dataset: Any, image: Any) -> bool:
        """Whether this image is the first of another range than the image before it; to be asked of each."""
        before = self._at
        while self._at < len(self._ranges):
            item = self._ranges[self._at]
            if item.dataset == dataset and (item.to is None or image <= item.to):
                break
            self._at += 1
        return self._at != before


class AnnotationCursor:
    """The stream of annotations, from which the images take theirs in turn. `weight`: bytes of JSON, about, of all
    that were taken."""

    def __init__(self, stream: Stream | None) -> None:
        self._taken: list[Scalar] = []
        self.weight = 0.0
        self.fields = stream.fields if stream is not None else []
        self.leading = stream.leading if stream is not None else 1
        self._wide_column = stream.wide_column if stream is not None else None
        self._parts = stream.parts if stream is not None else None
        self._values: list[Scalar] = []
        self._runs: list[tuple[Any, int]] = []
        self._at = self._run = 0
        self._row_bytes = 0.0

    def take_at_hand(self, image: Any) -> int | None:
        """As `take`, for an image whose annotations are all in the partition at hand; None if they may not be."""
        if self._run + 1 >= len(self._runs):
            return None
        key, length = self._runs[self._run]
        return self._took(length) if key == image else 0

    async def take(self, image: Any) -> int:
        """Take the annotations of the next image; how many there were."""
        count = 0
        while self._run < len(self._runs) or await self._next():
            key, length = self._runs[self._run]
            if key != image:
                break
            count += self._took(length)
            if self._run < len(self._runs):
                break
        return count

    def _took(self, length: int) -> int:
        self.weight += self._row_bytes * length
        self._at += length
        self._run += 1
        return length

    def taken(self) -> list[Scalar]:
        """What was taken since it was asked for the last time; nothing of it is held here any more."""
        end = self._at * len(self.fields)
        taken, self._taken = self._taken, []
        taken += self._values[:end]
        del self._values[:end]
        self._at = 0
        return taken

    async def _next(self) -> bool:
        """Fetch the next partition and find the runs of rows that belong to one image."""
        if self._parts is None:
            return False
        try:
            rows = await anext(self._parts)
        except StopAsyncIteration:
            self._parts = None
            return False
        # By now all of it is taken. In place, because the annotations of one image may fill many partitions.
        self._taken += self._values
        # The rows are given up at once: they are objects that the garbage collector would look through.
        keys, self._values = _flat(rows, self.leading)
        self._runs = [(key, len(list(run))) for key, run in groupby(keys)]
        self._at = self._run = 0
        wide_column = (
            lengths(self._values[self._wide_column :: len(self.fields)]) if self._wide_column is not None else 0
        )
        self._row_bytes = _ANNOTATION_BYTES + wide_column / len(rows)
        return True


def _piece(images: Stream, rows: list[Row], cursor: AnnotationCursor, spans: list[int], last: bool) -> BlockRows:
    datasets, values = _flat(rows)
    return BlockRows(
        dataset=datasets[0],
        images=FlatRows(images.fields, values),
        annotations=FlatRows(cursor.fields, cursor.taken()),
        spans=spans,
        ends=last,
    )


def _flat(rows: Sequence[Row], leading: int = 1) -> tuple[list[Any], list[Scalar]]:
    """The keys that stand first, and everything else, row after row."""
    values: list[Scalar] = list(chain.from_iterable(rows))
    width = len(rows[0])
    keys: list[Any] = values[::width]
    del values[::width]
    if leading == 2:
        keys = list(zip(keys, values[:: width - 1], strict=True))
        del values[:: width - 1]
    return keys, values
