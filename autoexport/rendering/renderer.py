"""Who renders: threads of this process for a few blocks, a process of its own for many."""

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
from autoexport.values.boxes import BoxMapping

PROCESS_FROM_ROWS = 50_000
"""Rows from which a process of its own is worth its start, which takes about 0.15 s of a core."""

log = get_logger()


class Renderer(Protocol):
    """Takes blocks in order, piece by piece, and appends their bytes to the spools."""

    worker_cpu_s: float
    """Seconds of a core that were used outside this process; known after `finish`."""

    async def add(self, rows: BlockRows, project: ProjectNode, dataset: DatasetNode) -> None:
        """Render one more piece, sooner or later. Raises `PublishError` or `RenderError`, also for one before."""
        ...

    async def finish(self) -> list[Rendered]:
        """What was rendered, in the order in which it was added. Raises as `add`."""
        ...


@contextlib.asynccontextmanager
async def rendering(
    spools: Sequence[Spool], mapping: BoxMapping, options: FormatOptions, rows: int
) -> AsyncIterator[Renderer]:
    """Somebody who renders about so many rows."""
    if rows >= PROCESS_FROM_ROWS and spools and is_interpreter():
        async with process_renderer(spools, mapping, options) as renderer:
            if renderer is not None:
                yield renderer
                return
    yield ThreadRenderer(spools, mapping)


class ThreadRenderer:
    """Renders piece by piece, in a thread."""

    worker_cpu_s = 0.0

    def __init__(self, spools: Sequence[Spool], mapping: BoxMapping) -> None:
        self._spools = spools
        self._outputs = [spool.output for spool in spools]
        self._block_digest = BlockDigest(self._outputs)
        self._mapping = mapping
        self._rendered: list[Rendered] = []

    async def add(self, rows: BlockRows, project: ProjectNode, dataset: DatasetNode) -> None:
        made = await asyncio.to_thread(bodies_of, rows, self._mapping, self._outputs, project, dataset)
        for spool, body in zip(self._spools, made.bodies, strict=True):
            await spool.append(body)
        self._block_digest.add(made)
        if rows.ends:
            self._rendered.append(rendered_block(self._spools, *self._block_digest.end()))

    async def finish(self) -> list[Rendered]:
        return self._rendered
