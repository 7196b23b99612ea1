"""Renders the blocks that this process reads, and records them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager

from autoexport.model.blocks import BlockRows
from autoexport.model.catalog import Key
from autoexport.model.sections import BlockRecords
from autoexport.pipeline.recording import keys_of, record
from autoexport.rendering.renderer import Renderer
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
