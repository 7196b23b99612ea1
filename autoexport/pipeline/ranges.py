"""Reads and renders a full export by ranges of one snapshot, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoexport.formats.contract import FormatOptions
from autoexport.model.blocks import Stretch
from autoexport.model.sections import BlockRecords
from autoexport.pipeline.range_messages import RangeStart
from autoexport.pipeline.range_process import RangeProcess
from autoexport.pipeline.recording import record
from autoexport.rendering.spool import Spool, has_extents, rendered_blocks
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.logs import get_logger
from autoexport.runtime.progress import Progress
from autoexport.runtime.tasks import ended
from autoexport.runtime.threads import in_thread, is_interpreter
from autoexport.sources.contract import SharedSnapshot
from autoexport.sources.reader import SnapshotReader
from autoexport.sources.stretches import stretches, uncuttable

RANGES_FROM_ROWS = 100_000
"""Minimum rows that justify range workers, each of which takes about 0.4 s of a core to start."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Ranges:
    """What the ranges of an export have in common. `workers` is the most processes."""

    workers: int
    reader: SnapshotReader
    builder: TreeBuilder
    database: str
    options: FormatOptions
    state: Path
    spools: Sequence[Spool]
    progress: Progress

    async def render(self, expected: int) -> tuple[BlockRecords, float] | None:
        """Render everything, about `expected` rows: the records of the blocks, and the workers' processor time.

        None if one process has to do it. Raises `AutoexportError`.
        """
        if self.workers < 2 or expected < RANGES_FROM_ROWS:
            return None
        reason = self._obstacle() or uncuttable(self.reader)
        if reason:
            log.debug("ranges.one", reason=reason)
            return None
        async with self.reader.snapshot.share() as shared, contextlib.AsyncExitStack() as stack:
            started = await self._started(stack, shared)
            self.reader.snapshot.keep()
            if started is not None:
                await self._collected(started)
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
        return "" if has_extents(self.spools, self.workers) else "the disk takes no file with holes"

    async def _started(
        self, stack: contextlib.AsyncExitStack, shared: SharedSnapshot | None
    ) -> list[RangeProcess] | None:
        """A process for each range, which has opened the snapshot; None if one cannot."""
        if shared is None:
            log.debug("ranges.one", reason="the snapshot has one reader")
            return None
        parts = await stretches(self.reader, self.workers)
        if len(parts) < 2:
            return None
        processes = []
        descriptors = [spool.descriptor for spool in self.spools]
        for _ in parts:
            processes.append(process := RangeProcess())
            stack.push_async_callback(process.end)
            if not await process.start(descriptors):
                return None
        starts = [self._start(shared, *numbered) for numbered in enumerate(parts)]
        begun = await asyncio.gather(*map(RangeProcess.begin, processes, starts))
        return processes if all(begun) else None

    def _start(self, shared: SharedSnapshot, extent: int, stretch: Stretch) -> RangeStart:
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
            kept=0,
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
