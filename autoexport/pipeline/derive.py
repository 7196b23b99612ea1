"""Derives the next generation of the files from one snapshot, and keeps its working files until the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from autoexport.incremental.ledger import Ledger
from autoexport.incremental.position import HeldPosition
from autoexport.pipeline.generation import Generation
from autoexport.pipeline.job import ExportJob
from autoexport.pipeline.ranges import crew_of
from autoexport.pipeline.row_files import RowFileSet
from autoexport.rendering.spool import ScratchFile, spools
from autoexport.runtime.loading import load
from autoexport.runtime.logs import get_logger
from autoexport.runtime.progress import Progress
from autoexport.runtime.threads import in_thread

_LOADED_MEANWHILE = ("autoexport.pipeline.derivation", "autoexport.pipeline.publish")
"""The modules of the next steps. They load while the database is copied, because SQLAlchemy takes as long."""

log = get_logger()


@contextlib.asynccontextmanager
async def derive(
    job: ExportJob,
    ledger: Ledger | None,
    *,
    full: bool,
    progress: Progress | None = None,
    complete: bool = True,
) -> AsyncIterator[Generation]:
    """The next generation, from one snapshot. The snapshot is closed by then; the spools are removed afterwards.

    Raises `AutoexportError`, and `AnnotationsLeftOut` for annotations that the mapping leaves out, unless it need
    not be `complete`.
    """
    async with contextlib.AsyncExitStack() as working:
        spooled = await working.enter_async_context(spools(job.state, job.formats))
        scratch = ScratchFile(job.state)
        working.callback(scratch.close)
        row_files = RowFileSet(job.options, job.state, job.target.directory)
        working.callback(row_files.close)
        held = HeldPosition(job.state)
        working.push_async_callback(in_thread, held.close)
        early = (full or ledger is None) and job.source.is_large()
        crew = await working.enter_async_context(crew_of(job.workers, spooled, early=early))
        loading = asyncio.ensure_future(asyncio.to_thread(load, *_LOADED_MEANWHILE))
        working.push_async_callback(asyncio.wait, [loading])
        async with job.source.snapshot() as snapshot:
            log.debug("snapshot.opened", database=job.source.database)
            await loading
            from autoexport.pipeline.derivation import Derivation

            derivation = Derivation(job, snapshot, spooled, scratch, row_files, crew, progress, complete=complete)
            generation = await derivation.generation(ledger, full=full)
            if generation.position is not None:
                generation.position = await in_thread(held.take, generation.position)
        for spool in spooled:
            await spool.flush()
        yield generation
