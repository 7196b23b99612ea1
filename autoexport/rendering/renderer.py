"""Chooses the renderer: threads of this process for few rows, a worker process for many."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

from autoexport.formats.contract import Format, FormatOptions, Owner
from autoexport.model.blocks import BlockRows
from autoexport.rendering.bodies import BlockDigest, all_bodies_of
from autoexport.rendering.process import process_renderer
from autoexport.rendering.spool import Rendered, Spool, packed, rendered_blocks
from autoexport.runtime.interpreter import is_interpreter
from autoexport.runtime.logs import get_logger
from autoexport.values.block import RowMapping

PROCESS_FROM_ROWS = 50_000
"""Minimum rows that justify starting a worker process, which takes about 0.15 s of a core."""

log = get_logger()


class Renderer(Protocol):
    """Renders blocks in order, piece by piece, and appends their bytes to the spools."""

    worker_cpu_s: float
    """Processor time used outside this process, in seconds; known after `finish`."""

    async def add(self, rows: BlockRows, owners: Sequence[Owner]) -> None:
        """Render one more piece, or several blocks, now or later; `owners` are the projects and datasets of the
        blocks. Raises `PublishError` or `RenderError`, also of earlier pieces."""
        ...

    async def finish(self) -> Iterator[Rendered]:
        """Wait for all pieces; the rendered blocks, in the order of `add`. Raises as `add`."""
        ...


@contextlib.asynccontextmanager
async def rendering(
    spools: Sequence[Spool], outputs: Sequence[Format], mapping: RowMapping, options: FormatOptions, rows: int
) -> AsyncIterator[Renderer]:
    """A renderer suited to about so many rows. Raises `PublishError` if a spool cannot be flushed.

    `outputs` are the formats that the options describe.
    """
    if rows >= PROCESS_FROM_ROWS and spools and is_interpreter():
        async with process_renderer(spools, mapping, options) as renderer:
            if renderer is not None:
                yield renderer
                return
    yield ThreadRenderer(spools, outputs, mapping)


class ThreadRenderer:
    """Renders each piece in a thread of this process."""

    worker_cpu_s = 0.0

    def __init__(self, spools: Sequence[Spool], outputs: Sequence[Format], mapping: RowMapping) -> None:
        self._spools = spools
        self._outputs = [output for output in outputs if output.has_blocks]
        self._block_digest = BlockDigest(self._outputs)
        self._mapping = mapping
        self._ended: deque[bytes] = deque()

    async def add(self, rows: BlockRows, owners: Sequence[Owner]) -> None:
        pieces = await asyncio.to_thread(all_bodies_of, rows, self._mapping, self._outputs, owners)
        for index, spool in enumerate(self._spools):
            await spool.append([piece.bodies[index] for piece in pieces])
        # Encoded, as a worker process sends them: they take a third of the memory.
        self._ended.append(packed(self._block_digest.add_all(pieces, ends=rows.ends)))

    async def finish(self) -> Iterator[Rendered]:
        return rendered_blocks(self._spools, self._ended)
