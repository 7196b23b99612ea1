"""The stations that need the snapshot: mapping, changes, plan, render."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from autoexport.config.settings import Settings
from autoexport.errors import EmptyDatabase, MappedTableGone, MappingError, UndecodableText
from autoexport.formats import FormatOptions, settings_digest
from autoexport.formats.contract import Format
from autoexport.incremental.changes import Assessment, can_be_kept, conserved, recount, what_changed
from autoexport.incremental.ledger import Ledger
from autoexport.incremental.plan import Blocks, Plan, make_plan, render_all
from autoexport.incremental.position import HeldPosition
from autoexport.mapping.mapper import map_catalog, mapping_digest
from autoexport.model.blocks import BlockRecord, Range
from autoexport.model.catalog import Catalog, Key
from autoexport.model.mapping import Mapping
from autoexport.model.tree import Totals
from autoexport.pipeline.generation import Generation
from autoexport.rendering.renderer import rendering
from autoexport.rendering.spool import Rendered, Spool, spools
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.logs import get_logger
from autoexport.runtime.prefetch import prefetched
from autoexport.runtime.progress import Progress, _Silent
from autoexport.runtime.threads import in_thread
from autoexport.sources.contract import Position, Snapshot, Source
from autoexport.sources.reader import SnapshotReader
from autoexport.values.block import ruled_parent

log = get_logger()


class Derivation:
    """The stations that need the snapshot, for one export."""

    def __init__(
        self,
        snapshot: Snapshot,
        source: Source,
        settings: Settings,
        formats: Sequence[Format],
        spooled: Sequence[Spool],
        progress: Progress | None,
    ) -> None:
        self.snapshot = snapshot
        self.source = source
        self.settings = settings
        self.formats = formats
        self.spooled = spooled
        self.progress = progress or _Silent()
        self.worker_cpu_s = 0.0
        self._forgotten: str | None = None

    async def run(self, ledger: Ledger | None, *, full: bool, everything: str | None = None) -> Generation:
        """From the tables to rendered blocks; `everything` is a reason to render all of them."""
        started = time.monotonic()
        for spool in self.spooled:
            await spool.clear()
        mapping = await in_thread(_mapping, self.snapshot.catalog, self.settings, None if full else ledger)
        self.reader = SnapshotReader(self.snapshot, mapping)
        totals = await self.reader.totals()
        parents = await self.reader.parents()
        self.builder = await in_thread(TreeBuilder, parents, mapping, self.source.database, ruled_parent)
        found = await self._changes(mapping, ledger, "it was asked for" if full else everything or self._forgotten)
        log.debug(
            "plan.made",
            mode=found.plan.mode,
            reason=found.plan.reason,
            seconds=round(time.monotonic() - started, 3),
        )
        started = time.monotonic()
        plan, records, fresh = await self._render(mapping, found, ledger, totals)
        log.debug(
            "render.done",
            blocks=len(fresh),
            kept=len(plan.keep),
            seconds=round(time.monotonic() - started, 3),
        )
        return Generation(
            source=self.source,
            formats=self.formats,
            spooled=self.spooled,
            settings=settings_digest(self.settings),
            mapping=mapping,
            builder=self.builder,
            totals=totals,
            taken_at=self.snapshot.taken_at,
            plan=plan,
            records=records,
            rendered_images=sum(record.counts.images for record in fresh),
            position=await self._position(mapping, records),
            ledger=ledger if plan.ranges is not None else None,
            worker_cpu_s=self.worker_cpu_s,
        )

    # --- changes -------------------------------------------------------------------------------------

    async def _changes(self, mapping: Mapping, ledger: Ledger | None, reason: str | None) -> Assessment:
        if ledger is not None and reason is None:
            directory = self.settings.export_directory.absolute()
            digest = mapping_digest(mapping)
            reason = ledger.misfit(self.source.identity, settings_digest(self.settings), digest, directory)
        if ledger is None or reason is not None:
            return Assessment(render_all(reason or "there is no ledger"), Blocks([]), False)
        return await what_changed(self.reader, mapping, self.builder, ledger, self.settings.state_dir.absolute())

    async def _position(self, mapping: Mapping, records: Sequence[BlockRecord]) -> Position | None:
        if not await in_thread(can_be_kept, records, list(self.builder.places)):
            return None
        return await self.snapshot.position(mapping)

    # --- render --------------------------------------------------------------------------------------

    async def _render(
        self, mapping: Mapping, found: Assessment, ledger: Ledger | None, totals: Totals
    ) -> tuple[Plan, list[BlockRecord], list[BlockRecord]]:
        """The records of all blocks in the order of the tree's keys, and of those the rendered ones."""
        plan, rows = found.plan, totals.live.get("images", 0) + totals.live.get("annotations", 0)
        if plan.ranges is not None and ledger is not None:
            dirty = 1 - len(plan.keep) / max(1, len(found.blocks.records))
            fresh = await self._rendered(mapping, plan.ranges, int(rows * dirty), len(plan.keep))
            kept = [found.blocks.records[number] for number in plan.keep]
            if not await in_thread(conserved, kept, fresh, ledger, totals, found):
                lossy = await recount(self.reader, found.blocks, plan.keep)
                log.debug("changes.recounted", lossy=None if lossy is None else len(lossy))
                plan, more = await self._render_lossy(mapping, found.blocks, plan, lossy, rows)
                if more is not None:
                    fresh += more
            if plan.ranges is not None:
                kept = [found.blocks.records[number] for number in plan.keep]
                records = sorted(kept + fresh, key=lambda record: (record.dataset, record.first))
                return plan, records, fresh
        if ledger is not None:
            # All that is remembered of them is made anew, also if this has to begin again.
            self._forgotten = plan.reason
            ledger.blocks.clear()
        fresh = await self._rendered(mapping, None, rows)
        return plan, fresh, fresh

    async def _render_lossy(
        self, mapping: Mapping, blocks: Blocks, plan: Plan, lossy: set[int] | None, rows: int
    ) -> tuple[Plan, list[BlockRecord] | None]:
        if lossy is None:
            return render_all("there is an image without a key"), None
        if not lossy:
            return plan, []
        again = make_plan(blocks, self.builder.places, lossy, (), "rows are gone", small_neighbours=False)
        if again.ranges is None:
            return again, None
        keep = tuple(number for number in plan.keep if number not in lossy)
        expected = rows * len(lossy) // len(blocks.records)
        more = await self._rendered(mapping, again.ranges, expected, len(keep))
        return Plan(keep, plan.ranges, plan.reason), more

    async def _rendered(
        self, mapping: Mapping, ranges: Sequence[Range] | None, expected: int, kept: int = 0
    ) -> list[BlockRecord]:
        """Render these ranges, or everything; `expected` is about how many rows that is, and so many blocks are
        `kept` beside them."""
        self.progress.start(expected if ranges is None else None)
        found: list[tuple[Key, Key, Key]] = []
        rendered: list[Rendered] = []
        if ranges is None or ranges:
            options = FormatOptions.of(self.settings)
            first: list[Key] = []
            async with (
                prefetched(self.reader.blocks(ranges, kept)) as blocks,
                rendering(self.spooled, mapping, options, expected) as renderer,
            ):
                async for rows in blocks:
                    project, dataset = self.builder.places[rows.dataset]
                    await renderer.add(rows, project, dataset)
                    keys = rows.image_keys()
                    first = first or [keys[0]]
                    if rows.ends:
                        found.append((dataset.key, first[0], keys[-1]))
                        first = []
                    self.progress.advance(len(rows.spans) + sum(rows.spans))
                rendered = await renderer.finish()
            self.worker_cpu_s += renderer.worker_cpu_s
        self.progress.finish()
        return [
            BlockRecord(dataset, first, last, made.packed, self.builder.embedded(dataset), made.ids, made.parts)
            for (dataset, first, last), made in zip(found, rendered, strict=True)
        ]


def _mapping(catalog: Catalog, settings: Settings, ledger: Ledger | None) -> Mapping:
    """The mapping of this snapshot's tables; a table that was exported before must still be there."""
    if not catalog.tables and ledger is None:
        raise EmptyDatabase(
            "The database has no tables.", hint="Start the application once, or check --database-url."
        )
    gone: set[str] = set()
    if ledger is not None:
        gone = set(ledger.tables.values()) - {table.full_name for table in catalog.tables}
    try:
        mapping = map_catalog(catalog, settings.tables or None)
    except MappingError as error:
        if gone:
            raise _gone(gone) from error
        raise
    if ledger is not None and gone and set(ledger.tables) - set(mapping.tables()):
        raise _gone(gone)
    for warning in mapping.warnings:
        log.warning("mapping.warning", warning=warning)
    return mapping


def _gone(tables: set[str]) -> MappedTableGone:
    return MappedTableGone(
        f"A table that was exported before is no longer there: {', '.join(sorted(tables))}.",
        hint="The old files stay. If it is gone for good, run `python -m autoexport --full` once.",
    )


@contextlib.asynccontextmanager
async def derive(
    source: Source,
    settings: Settings,
    formats: Sequence[Format],
    state: Path,
    ledger: Ledger | None,
    *,
    full: bool,
    progress: Progress | None = None,
) -> AsyncIterator[Generation]:
    """What the files have to be, from one snapshot, which is over when the edition is there."""
    async with contextlib.AsyncExitStack() as working:
        spooled = await working.enter_async_context(spools(state, formats))
        held = HeldPosition(state)
        working.push_async_callback(in_thread, held.close)
        generation = await _read(source, settings, formats, spooled, held, ledger, full=full, progress=progress)
        for spool in spooled:
            await spool.flush()
        yield generation


async def _read(
    source: Source,
    settings: Settings,
    formats: Sequence[Format],
    spooled: Sequence[Spool],
    held: HeldPosition,
    ledger: Ledger | None,
    *,
    full: bool,
    progress: Progress | None,
) -> Generation:
    """The edition, from a snapshot of which nothing is left when it is there."""
    async with source.snapshot() as snapshot:
        log.debug("snapshot.opened", database=source.database)
        line = Derivation(snapshot, source, settings, formats, spooled, progress)
        try:
            generation = await line.run(ledger, full=full)
        except UndecodableText as error:
            log.debug("snapshot.reread", reason=str(error))
            await snapshot.read_leniently()
            generation = await _leniently(line, ledger, full=full)
        if generation.position is not None:
            generation.position = await in_thread(held.take, generation.position)
        return generation


async def _leniently(line: Derivation, ledger: Ledger | None, *, full: bool) -> Generation:
    try:
        return await line.run(ledger, full=full)
    except UndecodableText as error:
        # A key that is not valid text cannot be asked for by name, only met in passing.
        return await line.run(ledger, full=full, everything=str(error))
