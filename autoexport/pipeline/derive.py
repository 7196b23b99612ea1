"""Derives the next generation of the files from one snapshot: map, find changes, plan, render."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence

from autoexport.errors import MappedTableGone, MappingError, UndecodableText
from autoexport.formats.contract import SectionFormat
from autoexport.incremental.changes import Assessment, assess, assess_without_ledger, judge
from autoexport.incremental.key_kinds import kinds_of
from autoexport.incremental.ledger import Ledger
from autoexport.incremental.plan import Plan
from autoexport.incremental.position import HeldPosition
from autoexport.mapping.mapper import map_catalog, mapping_digest
from autoexport.mapping.overrides import TablesConfig
from autoexport.mapping.unseen import hidden, no_tables
from autoexport.model import packing
from autoexport.model.blocks import BlockRecord, BlockRows, Range
from autoexport.model.catalog import Catalog, Key
from autoexport.model.mapping import Mapping
from autoexport.model.scratch import Scratch
from autoexport.model.sections import BlockRecords, SectionRecord
from autoexport.model.tree import Totals
from autoexport.pipeline.generation import Generation
from autoexport.pipeline.job import ExportJob
from autoexport.rendering.renderer import rendering
from autoexport.rendering.spool import Rendered, ScratchFile, Spool, spools
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.logs import get_logger
from autoexport.runtime.prefetch import prefetched
from autoexport.runtime.progress import NullProgress, Progress
from autoexport.runtime.threads import in_thread
from autoexport.sources.check_queries import left_out, refuse_conditions
from autoexport.sources.contract import Snapshot
from autoexport.sources.reader import SnapshotReader
from autoexport.values.block import ruled_parents
from autoexport.values.encoders import fingerprints

log = get_logger()

_EXPANDED_ROWS = 4
"""A stored row that holds several annotations takes about as long to render as so many rows."""


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
        held = HeldPosition(job.state)
        working.push_async_callback(in_thread, held.close)
        async with job.source.snapshot() as snapshot:
            log.debug("snapshot.opened", database=job.source.database)
            derivation = Derivation(job, snapshot, spooled, scratch, progress, complete=complete)
            generation = await _read(derivation, snapshot, ledger, full=full)
            if generation.position is not None:
                generation.position = await in_thread(held.take, generation.position)
        for spool in spooled:
            await spool.flush()
        yield generation


async def _read(derivation: Derivation, snapshot: Snapshot, ledger: Ledger | None, *, full: bool) -> Generation:
    """Read strictly. If a text is not valid, read again leniently."""
    try:
        return await derivation.run(ledger, full=full)
    except UndecodableText as error:
        log.debug("snapshot.reread", reason=str(error))
    await snapshot.read_leniently()
    try:
        return await derivation.run(ledger, full=full)
    except UndecodableText as error:
        # A condition cannot name a key that is not valid text, so read everything, without conditions.
        return await derivation.run(ledger, full=full, everything=str(error))


class Derivation:
    """The steps of one export that need the snapshot."""

    def __init__(
        self,
        job: ExportJob,
        snapshot: Snapshot,
        spooled: Sequence[Spool],
        scratch: Scratch,
        progress: Progress | None,
        *,
        complete: bool,
    ) -> None:
        self.job = job
        self.snapshot = snapshot
        self.spooled = spooled
        self.scratch = scratch
        self.progress = progress or NullProgress()
        self.complete = complete
        self.worker_cpu_s = 0.0

    async def run(self, ledger: Ledger | None, *, full: bool, everything: str | None = None) -> Generation:
        """Map, plan and render. `everything` is a reason to render all blocks."""
        started = time.monotonic()
        for spool in self.spooled:
            await spool.clear()
        mapping = await in_thread(_mapping, self.snapshot.catalog, self.job.tables, None if full else ledger)
        self.mapping = mapping
        lost = await left_out(self.snapshot, mapping)
        if lost is not None and self.complete:
            raise lost
        self.reader = SnapshotReader(self.snapshot, mapping)
        await refuse_conditions(self.reader)
        totals = await self.reader.totals()
        parents = await self.reader.parents()
        self.builder = await in_thread(TreeBuilder, parents, mapping, self.job.source.database, ruled_parents)
        assessment = await self._assess(ledger, "it was asked for" if full else everything)
        log.debug(
            "plan.made",
            mode=assessment.plan.mode,
            reason=assessment.plan.reason,
            seconds=round(time.monotonic() - started, 3),
        )
        started = time.monotonic()
        plan, kept, records, fresh = await self._render(assessment, ledger, totals)
        known = ledger.kinds if ledger is not None and kept else ("", "")
        kinds = await in_thread(kinds_of, records, self.builder.datasets, known)
        log.debug(
            "render.done",
            blocks=len(fresh),
            kept=len(plan.keep) + sum(section.sums.blocks for section in kept.values()),
            seconds=round(time.monotonic() - started, 3),
        )
        return Generation(
            database=self.job.source.database,
            formats=self.job.formats,
            spooled=self.spooled,
            scratch=self.scratch,
            mapping=mapping,
            builder=self.builder,
            totals=totals,
            taken_at=self.snapshot.taken_at,
            plan=plan,
            records=records,
            kept=kept,
            kinds=kinds,
            rendered_images=sum(record.counts.image_rows for record in fresh),
            position=await self.snapshot.position(self.mapping) if kinds is not None else None,
            ledger=ledger if plan.ranges is not None else None,
            worker_cpu_s=self.worker_cpu_s,
            left_out=lost,
        )

    # --- changes -------------------------------------------------------------------------------------

    async def _assess(self, ledger: Ledger | None, reason: str | None) -> Assessment:
        """Plan what to render. `reason` is a reason to render everything; None if there is none so far."""
        if ledger is None:
            return assess_without_ledger(reason or "there is no ledger")
        job, digest = self.job, mapping_digest(self.mapping)
        misfit = reason or await in_thread(
            ledger.misfit, job.source.identity, job.digest, digest, fingerprints(), job.target.identify
        )
        if misfit is not None:
            return assess_without_ledger(misfit)
        sectioned = all(isinstance(output, SectionFormat) for output in job.formats)
        return await assess(self.reader, self.mapping, self.builder, ledger, job.state, sectioned)

    # --- render --------------------------------------------------------------------------------------

    async def _render(
        self, assessment: Assessment, ledger: Ledger | None, totals: Totals
    ) -> tuple[Plan, dict[int, SectionRecord], BlockRecords, BlockRecords]:
        """The final plan, the kept sections, the records of all other blocks in the order of the tree's keys, and
        the fresh ones."""
        weight = _EXPANDED_ROWS if "annotations" in self.mapping.expand else 1
        rows = totals.live.get("images", 0) + totals.live.get("annotations", 0) * weight
        plan = assessment.plan
        if ledger is not None and plan.ranges is not None:
            expected = int(rows * assessment.dirty_share())
            others = assessment.kept_blocks()
            fresh = await self._render_ranges(plan.ranges, expected, len(plan.keep) + others)
            verdict = await judge(self.reader, self.builder, assessment, fresh, ledger, totals)
            plan = verdict.plan
            if plan.ranges is not None:
                kept = assessment.blocks.records.picked(plan.keep)
                if verdict.lost:
                    expected = int(rows * verdict.lost_share)
                    fresh += await self._render_ranges(verdict.lost, expected, len(kept) + others)
                together = kept + fresh
                order = sorted(range(len(together)), key=list(map(_order, together)).__getitem__)
                return plan, verdict.kept, together.picked(order), fresh
        if ledger is not None:
            ledger.forget_sections(plan.reason)
        fresh = await self._render_ranges(None, rows)
        return plan, {}, fresh, fresh

    async def _render_ranges(self, ranges: Sequence[Range] | None, expected: int, kept: int = 0) -> BlockRecords:
        """Render these ranges, or everything if None; returns the records of their blocks.

        `expected` is the approximate number of their rows. `kept` is the number of kept blocks beside them.
        """
        self.progress.start(expected if ranges is None else None)
        records = BlockRecords()
        if ranges is None or ranges:
            keys: deque[bytes] = deque()
            first: list[Key] = []
            async with (
                prefetched(self.reader.blocks(ranges, kept)) as blocks,
                rendering(self.spooled, self.mapping, self.job.options, expected) as renderer,
            ):
                async for rows in blocks:
                    members = rows.blocks()
                    owners, digests = self.builder.owners([dataset for dataset, _ in members])
                    await renderer.add(rows, owners)
                    keys.append(_keys(rows, digests, first))
                    self.progress.advance(len(rows.spans) + sum(rows.spans))
                rendered = await renderer.finish()
            self.worker_cpu_s += renderer.worker_cpu_s
            await in_thread(_record, records, keys, rendered)
        self.progress.finish()
        return records


def _order(record: BlockRecord) -> tuple[Key, Key]:
    return record.dataset, record.first


def _keys(rows: BlockRows, digests: Sequence[str], first: list[Key]) -> bytes:
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


def _record(records: BlockRecords, keys: deque[bytes], rendered: Iterator[Rendered]) -> None:
    """Record the rendered blocks, and free their packed keys one after the other."""
    while keys:
        for dataset, first, last, parents in packing.unpack(keys.popleft()):
            made = next(rendered)
            records.append(BlockRecord(dataset, first, last, made.packed, parents, made.ids, made.parts))


def _mapping(catalog: Catalog, tables: TablesConfig | None, ledger: Ledger | None) -> Mapping:
    """Map the tables of the snapshot. Raises `MappingError`, or `MappedTableGone` for a missing exported table."""
    if not catalog.tables and ledger is None:
        raise no_tables(catalog)
    gone: set[str] = set()
    if ledger is not None:
        gone = set(ledger.tables.values()) - {table.full_name for table in catalog.tables}
    try:
        mapping = map_catalog(catalog, tables)
    except MappingError as error:
        if gone:
            raise _gone(gone, catalog) from error
        raise
    if ledger is not None and gone and set(ledger.tables) - set(mapping.tables()):
        raise _gone(gone, catalog)
    for warning in mapping.warnings:
        log.warning("mapping.warning", warning=warning)
    return mapping


def _gone(tables: set[str], catalog: Catalog) -> MappedTableGone:
    hint = hidden(tables, catalog)
    if hint:
        names = ", ".join(sorted(tables))
        return MappedTableGone(f"A table that was exported before can no longer be seen: {names}.", hint=hint)
    return MappedTableGone(
        f"A table that was exported before is missing: {', '.join(sorted(tables))}.",
        hint="The old files stay. If the table is gone for good, run `python -m autoexport --full` once.",
    )
