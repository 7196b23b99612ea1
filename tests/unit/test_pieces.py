"""Checks that blocks in pieces have the same rows and the same bytes as whole blocks."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from autoexport.config.settings import Settings
from autoexport.formats import chosen_formats
from autoexport.formats.contract import Format
from autoexport.formats.json_document import JsonStyle
from autoexport.model.blocks import BlockRows, FlatRows, Range, pack
from autoexport.model.tree import DatasetNode, ProjectNode
from autoexport.rendering.bodies import BlockDigest, all_bodies_of, bodies_of
from autoexport.rendering.messages import LENGTH, decoded, read_rows, rows_message
from autoexport.sources.block_size import BlockSize
from autoexport.sources.gather import Row, Stream, gather
from tests.trees import block_rows, mapping

Spans = list[list[int]]
STYLES = st.sampled_from(["records", "pretty"])
SPANS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=25), min_size=1, max_size=3)
"""The number of annotations of each image, by dataset."""


async def in_parts(rows: Sequence[Row], size: int) -> AsyncIterator[Sequence[Row]]:
    """The rows as a database delivers them, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


async def gathered(spans: Spans, size: BlockSize, part: int, ranges: Sequence[Range]) -> list[BlockRows]:
    """The pieces of images with so many annotations. Image 7 of dataset 2 has the key 2007."""
    places = [
        (dataset, 1000 * dataset + at, own) for dataset, some in enumerate(spans) for at, own in enumerate(some)
    ]
    images = Stream(["id"], in_parts([(dataset, key) for dataset, key, _ in places], part))
    rows = [(key, f"{key}/{at}", "x" * 50 * at) for _, key, own in places for at in range(own)]
    annotations = Stream(["id", "polygon"], in_parts(rows, part), wide_column=1)
    return [piece async for piece in gather(images, annotations, ranges, size, lambda key: AssertionError(key))]


def whole(pieces: Sequence[BlockRows]) -> list[BlockRows]:
    """Join pieces to their blocks."""
    blocks: list[BlockRows] = []
    ends = True
    for piece in pieces:
        if ends:
            blocks.append(BlockRows(piece.dataset, FlatRows(["id"], []), FlatRows(["id", "polygon"], []), []))
        assert piece.dataset == blocks[-1].dataset
        blocks[-1].images.values += piece.images.values
        blocks[-1].annotations.values += piece.annotations.values
        blocks[-1].spans += piece.spans
        ends = piece.ends
    assert ends
    return blocks


@given(
    SPANS,
    st.integers(1, 30),
    st.integers(500, 20_000),
    st.integers(1, 5000),
    st.integers(1, 40),
    st.integers(1, 9),
    st.data(),
)
def test_blocks_are_cut_where_they_would_be(
    spans: Spans, images: int, json_bytes: int, piece_bytes: int, part: int, doubling: int, data: Any
) -> None:
    """However small the pieces are, the blocks are the same as without pieces, also with ranges."""
    cuts = data.draw(st.sets(st.integers(0, len(spans[0]) - 1), max_size=3))
    ends = [(0, key) for key in sorted(cuts)] + [(dataset, None) for dataset in range(len(spans))] if cuts else []
    ranges = [Range(dataset, None, to) for dataset, to in ends]
    whole_size = BlockSize(images, json_bytes, 1 << 40, doubling)
    size = BlockSize(images, json_bytes, piece_bytes, doubling)
    expected = asyncio.run(gathered(spans, whole_size, part, ranges))
    pieces = asyncio.run(gathered(spans, size, part, ranges))
    assert all(block.ends for block in expected)
    assert whole_size.blocks == size.blocks == len(expected)
    assert whole(pieces) == expected
    assert all(piece.spans for piece in pieces)


@given(SPANS, st.integers(1, 30), st.integers(500, 20_000), st.integers(1, 5000), st.integers(1, 9), st.data())
def test_small_blocks_come_together(
    spans: Spans, images: int, json_bytes: int, piece_bytes: int, doubling: int, data: Any
) -> None:
    """The blocks are those that would come alone, and no image is handed over late."""
    together = data.draw(st.integers(1, 40))
    alone = asyncio.run(gathered(spans, BlockSize(images, json_bytes, 1 << 40, doubling), 7, ()))
    size = BlockSize(images, json_bytes, piece_bytes, doubling, together=together)
    batches = asyncio.run(gathered(spans, size, 7, ()))
    assert size.blocks == len(alone)
    assert whole([own for batch in batches for own in apart(batch)]) == alone
    before_the_end = [batch for batch in batches[:-1] if batch.ends]
    assert all(sum(length for _, length in batch.blocks()[:-1]) < together for batch in before_the_end)


def apart(batch: BlockRows) -> Iterator[BlockRows]:
    """The blocks of a batch, each by itself."""
    image, row, width = 0, 0, len(batch.annotations.fields)
    members = batch.blocks()
    for number, (dataset, length) in enumerate(members, 1):
        own = batch.spans[image : image + length]
        images = FlatRows(batch.images.fields, batch.images.values[image : image + length])
        below = FlatRows(batch.annotations.fields, batch.annotations.values[row : row + width * sum(own)])
        yield BlockRows(dataset, images, below, own, batch.ends or number < len(members))
        image, row = image + length, row + width * sum(own)


IMAGE = st.fixed_dictionaries(
    {},
    optional={
        "split": st.sampled_from(["train", "valid", "x", None, b"test"]),
        "filename": st.sampled_from(["a.jpg", "=b", 'c"', "\udcff", None, 1]),
        "width": st.sampled_from([1, 0.5, None, "wide", float("inf")]),
        "is_labeled": st.sampled_from([0, 1, None, "perhaps"]),
        "created_at": st.sampled_from(["2024-01-15 09:00:00", "never", None, 5]),
    },
)
LABELS = st.lists(
    st.fixed_dictionaries(
        {"label": st.sampled_from(["a", "b", None]), "box_0": st.sampled_from([1.5, None, float("nan"), "x"])},
        optional={"polygon": st.sampled_from(["[[1, 2]]", "null", "[1e999]", "x"])},
    ),
    max_size=3,
)


@given(st.lists(st.lists(st.tuples(IMAGE, LABELS), min_size=1, max_size=3), min_size=1, max_size=6), STYLES)
def test_blocks_rendered_together_are_those_rendered_alone(drawn: list[list[Any]], style: JsonStyle) -> None:
    """Bytes, counts, repairs and guarded cells; in a process the same as here, and in a format that knows no
    batches."""
    options = Settings(json_style=style).format_options
    outputs: list[Any] = [output for output in chosen_formats(options) if output.has_blocks]
    outputs += [OneByOne(output) for output in outputs]
    blank = dict.fromkeys(("split", "filename", "width", "is_labeled", "created_at"))
    datasets = [
        [{"id": f"{at}-{number}", **blank, **image, "annotations": [{"polygon": None, **own} for own in below]}
         for number, (image, below) in enumerate(images)]
        for at, images in enumerate(drawn)
    ]  # fmt: skip
    noon = datetime(2024, 1, 15, 12)  # noqa: DTZ001 - as stored
    projects = [ProjectNode(n, {"id": n, "name": "=p" if n else "q", "created_at": noon}) for n in range(2)]
    owners = [
        (projects[at % 2], DatasetNode(at, {"id": orjson.Fragment(b"1.50"), "name": f"-{at}"}))
        for at in range(len(datasets))
    ]
    rows = block_rows([image for images in datasets for image in images])
    rows.members = [(at, len(images)) for at, images in enumerate(datasets)]
    received, sent_owners = read_rows(decoded(rows_message(rows, owners)[LENGTH.size :]))
    together = all_bodies_of(received, mapping(), outputs, sent_owners)
    for images, owner, made in zip(datasets, owners, together, strict=True):
        # Each with all fields, as a database has them.
        alone = bodies_of(block_rows(images) if any(i["annotations"] for i in images) else
                          replace(block_rows(images), annotations=FlatRows(rows.annotations.fields, [])),
                          mapping(), outputs, *owner)  # fmt: skip
        assert made == alone
        assert made.bodies[:2] == made.bodies[2:]


class OneByOne:
    """A format without `blocks`."""

    def __init__(self, output: Format) -> None:
        self.block = output.block


def test_pieces_are_small() -> None:
    """A piece exceeds its limit by less than one image."""
    pieces = asyncio.run(gathered([[3] * 60], BlockSize(50, 1 << 40, 3000, 1000), 7, ()))
    assert [len(piece.spans) for piece in pieces] == [3] * 16 + [2] + [3] * 3 + [1]
    assert [piece.ends for piece in pieces] == [False] * 16 + [True] + [False] * 3 + [True]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.sets(st.integers(1, 11), max_size=4), STYLES)
def test_the_bytes_are_those_of_the_whole(spans: list[int], cuts: set[int], style: JsonStyle) -> None:
    """Length, checksum and counts of the joined pieces are those of the block, in every format.

    The same digest then serves another block.
    """
    options = Settings(json_style=style).format_options
    outputs = [output for output in chosen_formats(options) if output.has_blocks]
    project, dataset = ProjectNode(1, {"id": 1, "name": "=p"}), DatasetNode(2, {"id": 2, "name": "d"})
    images = [
        {"id": f"i{at}", "split": "train" if at % 2 else None, "filename": "=f.jpg",
         "annotations": [{"id": at, "label": f"l{at % 3}", "confidence": "much"}] * own}
        for at, own in enumerate(spans)
    ]  # fmt: skip
    bounds = [0, *sorted(cut for cut in cuts if cut < len(images)), len(images)]
    joined = BlockDigest(outputs)
    for _ in range(2):
        bodies: list[list[bytes]] = []
        for start, end in pairwise(bounds):
            piece = bodies_of(block_rows(images[start:end]), mapping(), outputs, project, dataset)
            joined.add(piece)
            bodies.append(piece.bodies)
        made = bodies_of(block_rows(images), mapping(), outputs, project, dataset)
        together = [
            output.separator.join(own) for output, own in zip(outputs, zip(*bodies, strict=True), strict=True)
        ]
        assert together == made.bodies
        packed, ids, lengths = joined.end()
        assert lengths == [(len(body), zlib.crc32(body)) for body in made.bodies]
        assert ids == made.ids
        assert orjson.loads(packed) == orjson.loads(pack(made.counts))


def test_the_more_there_are_the_larger_they_become() -> None:
    """Blocks double in size after each ten. Blocks that exist already count as well."""
    spans = [[1] * 400]
    sizes = [
        len(block.spans) for block in asyncio.run(gathered(spans, BlockSize(8, 1 << 40, 1 << 40, 10), 50, ()))
    ]
    assert sizes == [8] * 10 + [16] * 10 + [32] * 5
    kept = BlockSize(8, 1 << 40, 1 << 40, 10, blocks=25)
    assert [len(block.spans) for block in asyncio.run(gathered(spans, kept, 50, ()))] == [32] * 5 + [64] * 3 + [48]
    assert kept.blocks == 34
    heavy = asyncio.run(gathered([[5] * 40], BlockSize(1000, 4000, 1 << 40, 4), 50, ()))
    assert [len(block.spans) for block in heavy] == [2] * 4 + [4] * 4 + [7, 7, 2]
