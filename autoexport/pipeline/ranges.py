"""Reads and renders a full export by ranges of one snapshot, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoexport.formats.contract import FormatOptions
from autoexport.model.blocks import Stretch
from autoexport.model.sections import BlockRecords
from autoexport.pipeline.range_messages import RangeStart
from autoexport.pipeline.range_process import RangeProcess
from autoexport.pipeline.recording import record
from autoexport.rendering.spool import Spool, has_extents, rendered_blocks
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.interpreter import is_interpreter
from autoexport.runtime.logs import get_logger
from autoexport.runtime.progress import Progress
from autoexport.runtime.tasks import ended
from autoexport.runtime.threads import in_thread
from autoexport.sources.block_size import blocks_of
from autoexport.sources.contract import SharedSnapshot
from autoexport.sources.stretches import stretches, uncuttable

if TYPE_CHECKING:  # A copy of a SQLite file is begun before SQLAlchemy is loaded.
    from autoexport.sources.reader import SnapshotReader

RANGES_FROM_ROWS = 100_000
"""Minimum rows that justify range workers, each of which takes about 0.4 s of a core to start."""

log = get_logger()


class Crew:
    """The processes of an export, at most `workers`. Each writes to the spools of these descriptors.

    They can be started before there is anything to do: to load their modules takes as long as to copy a database.
    """

    def __init__(self, workers: int, spools: Sequence[int]) -> None:
        self.workers = workers
        self._spools = spools
        self._started: list[RangeProcess] = []

    async def started(self, count: int) -> list[RangeProcess] | None:
        """So many processes, started by now; None if one cannot be started."""
        while len(self._started) < count:
            self._started.append(process := RangeProcess())
            if not await process.start(self._spools):
                return None
        return self._started[:count]

    async def end(self) -> None:
        """End all processes."""
        ending, self._started = self._started, []
        await asyncio.gather(*map(RangeProcess.end, ending))


@contextlib.asynccontextmanager
async def crew_of(workers: int, spools: Sequence[Spool], *, early: bool) -> AsyncIterator[Crew]:
    """The processes of an export, ended on exit. `early`: start them all now, as they will be needed."""
    crew = Crew(workers, [spool.descriptor for spool in spools])
    try:
        if early and workers > 1 and spools and is_interpreter():
            await crew.started(workers)
        yield crew
    finally:
        await crew.end()


@dataclass(frozen=True, slots=True)
class Ranges:
    """What the ranges of an export have in common."""

    crew: Crew
    reader: SnapshotReader
    builder: TreeBuilder
    database: str
    options: FormatOptions
    state: Path
    spools: Sequence[Spool]
    progress: Progress

    async def render(self, expected: int) -> tuple[BlockRecords, float] | None:
        """Render everything, about `expected` rows: the records of the blocks, and the workers' processor time.

        None if one process has to do it. Raises `AutoexportError`. The processes end with it.
        """
        try:
            if self.crew.workers < 2 or expected < RANGES_FROM_ROWS:
                return None
            if reason := self._obstacle() or uncuttable(self.reader):
                log.debug("ranges.one", reason=reason)
                return None
            async with self.reader.snapshot.share() as shared:
                started = await self._started(shared)
                self.reader.snapshot.keep()
                if started is not None:
                    await self._collected(started)
        finally:
            self.reader.snapshot.keep()
            await self.crew.end()
        if started is None:
            for spool in self.spools:  # Those that did start may have written.
                await spool.clear()
            return None
        records = await in_thread(self._recorded, started)
        return records, sum(process.cpu_s for process in started)

    def _recorded(self, processes: Sequence[RangeProcess]) -> BlockRecords:
        """The records of all blocks. Raises `PublishError`."""
        records = BlockRecords()
        written = [[process.written[index] for process in processes] for index in range(len(self.spools))]
        extents = zip(*map(Spool.take_extents, self.spools, written), strict=True)
        for process, _ in zip(processes, extents, strict=True):
            record(records, process.keys, rendered_blocks(self.spools, process.digests))
        return records

    def _obstacle(self) -> str:
        if not is_interpreter():
            return "no process can be started"
        if not self.spools:
            return "no file has images"
        return "" if has_extents(self.spools, self.crew.workers) else "the disk takes no file with holes"

    async def _started(self, shared: SharedSnapshot | None) -> list[RangeProcess] | None:
        """A process for each range, which has opened the snapshot; None if one cannot."""
        if shared is None:
            log.debug("ranges.one", reason="the snapshot has one reader")
            return None
        images, *_ = self.reader.counted
        # They load their modules while the database says where to cut.
        if images < 2 or await self.crew.started(min(self.crew.workers, images)) is None:
            return None
        parts = await stretches(self.reader, self.crew.workers)
        if len(parts) < 2 or (processes := await self.crew.started(len(parts))) is None:
            return None
        starts = [self._start(shared, len(parts), *numbered) for numbered in enumerate(parts)]
        begun = await asyncio.gather(*map(RangeProcess.begin, processes, starts))
        return processes if all(begun) else None

    def _start(self, shared: SharedSnapshot, parts: int, extent: int, stretch: Stretch) -> RangeStart:
        images, *_ = self.reader.counted
        return RangeStart(
            shared=shared,
            mapping=self.builder.mapping,
            database=self.database,
            options=self.options,
            training=self.builder.training,
            state=self.state,
            spools=[spool.descriptor for spool in self.spools],
            extent=extent,
            stretch=stretch,
            counted=self.reader.counted,
            kept=blocks_of(images, images * extent // parts),
        )

    async def _collected(self, processes: Sequence[RangeProcess]) -> None:
        """Wait for all processes; raises the first error."""
        tasks = [
            asyncio.create_task(process.collect(self.progress.advance), name="autoexport: range")
            for process in processes
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
                await ended(task)
