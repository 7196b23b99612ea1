"""Chooses the renderer: threads of this process for few rows, a worker process for many."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from autoexport.formats.contract import FormatOptions
from autoexport.model.blocks import BlockRows
from autoexport.model.tree import DatasetNode, ProjectNode
from autoexport.rendering.bodies import BlockDigest, bodies_of
from autoexport.rendering.process import process_renderer
from autoexport.rendering.spool import Rendered, Spool, rendered_block
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import is_interpreter
from autoexport.values.block import RowMapping

PROCESS_FROM_ROWS = 50_000
"""Minimum rows that justify starting a worker process, which takes about 0.15 s of a core."""

log = get_logger()


class Renderer(Protocol):
    """Renders blocks in order, piece by piece, and appends their bytes to the spools."""

    worker_cpu_s: float
    """Processor time used outside this process, in seconds; known after `finish`."""

    async def add(self, rows: BlockRows, project: ProjectNode, dataset: DatasetNode) -> None:
        """Render one more piece, now or later. Raises `PublishError` or `RenderError`, also of earlier pieces."""
        ...

    async def finish(self) -> list[Rendered]:
        """Wait for all pieces; the rendered blocks, in the order of `add`. Raises as `add`."""
        ...


@contextlib.asynccontextmanager
async def rendering(
    spools: Sequence[Spool], mapping: RowMapping, options: FormatOptions, rows: int
) -> AsyncIterator[Renderer]:
    """A renderer suited to about so many rows. Raises `PublishError` if a spool cannot be flushed."""
    if rows >= PROCESS_FROM_ROWS and spools and is_interpreter():
        async with process_renderer(spools, mapping, options) as renderer:
            if renderer is not None:
                yield renderer
                return
    yield ThreadRenderer(spools, mapping)


class ThreadRenderer:
    """Renders each piece in a thread of this process."""

    worker_cpu_s = 0.0

    def __init__(self, spools: Sequence[Spool], mapping: RowMapping) -> None:
        self._spools = spools
        self._outputs = [spool.output for spool in spools]
        self._block_digest = BlockDigest(self._outputs)
        self._mapping = mapping
        self._rendered: list[Rendered] = []

    async def add(self, rows: BlockRows, project: ProjectNode, dataset: DatasetNode) -> None:
        piece = await asyncio.to_thread(bodies_of, rows, self._mapping, self._outputs, project, dataset)
        if piece.shown:
            for spool, body in zip(self._spools, piece.bodies, strict=True):
                await spool.append(body)
        self._block_digest.add(piece)
        if rows.ends:
            self._rendered.append(rendered_block(self._spools, *self._block_digest.end()))

    async def finish(self) -> list[Rendered]:
        return self._rendered
