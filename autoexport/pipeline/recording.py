"""Renders blocks and records them: which images they hold, and where their bytes are."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager

from autoexport.model import packing
from autoexport.model.blocks import BlockRecord, BlockRows
from autoexport.model.catalog import Key
from autoexport.model.sections import BlockRecords
from autoexport.rendering.renderer import Renderer
from autoexport.rendering.spool import Rendered
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.prefetch import prefetched
from autoexport.runtime.progress import Progress
from autoexport.runtime.threads import in_thread


async def rendered_here(
    blocks: AsyncGenerator[BlockRows, None],
    builder: TreeBuilder,
    rendering: AbstractAsyncContextManager[Renderer],
    progress: Progress,
) -> tuple[BlockRecords, float]:
    """Render blocks that this process reads: their records, and the processor time of other processes, in
    seconds. Raises `AutoexportError`.
    """
    records = BlockRecords()
    keys: deque[bytes] = deque()
    first: list[Key] = []
    async with prefetched(blocks) as pieces, rendering as renderer:
        async for rows in pieces:
            members = rows.blocks()
            owners, digests = builder.owners([dataset for dataset, _ in members])
            await renderer.add(rows, owners)
            keys.append(keys_of(rows, digests, first))
            progress.advance(len(rows.spans) + sum(rows.spans))
        rendered = await renderer.finish()
    await in_thread(record, records, keys, rendered)
    return records, renderer.worker_cpu_s


def order_of(record: BlockRecord) -> tuple[Key, Key]:
    """The key by which the blocks of the tree are sorted."""
    return record.dataset, record.first


def keys_of(rows: BlockRows, digests: Sequence[str], first: list[Key]) -> bytes:
    """Dataset, first and last image, and digest of the parents of each block that ends in these rows, packed.

    `first` holds the first image of a block that began in earlier rows.
    """
    images, end = rows.image_keys(), 0
    keys = []
    for index, ((dataset, length), digest) in enumerate(zip(rows.blocks(), digests, strict=True), 1):
        begun, end = end, end + length
        if not first:
            first.append(images[begun])
        if rows.ends or index < len(digests):
            keys.append((dataset, first.pop(), images[end - 1], digest))
    return packing.pack(keys)


def record(records: BlockRecords, keys: deque[bytes], rendered: Iterator[Rendered]) -> None:
    """Record the rendered blocks, and free their packed keys one after the other."""
    while keys:
        for dataset, first, last, parents in packing.unpack(keys.popleft()):
            made = next(rendered)
            records.append(BlockRecord(dataset, first, last, made.packed, parents, made.ids, made.parts))
