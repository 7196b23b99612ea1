"""The stations that need the snapshot: mapping, changes, plan, render."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple
from typing import Protocol

import xxhash

from autoexport.ahead import fetched_ahead
from autoexport.changes import Found, can_be_kept, conserved, recount, what_changed
from autoexport.contracts import Format, Position, Snapshot, Source
from autoexport.edition import Edition
from autoexport.encoders import fingerprints
from autoexport.errors import EmptyDatabase, MappedTableGone, MappingError
from autoexport.formats import FormatOptions
from autoexport.ledger import BlockRecord, Ledger
from autoexport.logs import get_logger
from autoexport.mapping import map_catalog, mapping_digest
from autoexport.model import Catalog, Key, Mapping, Range
from autoexport.offloop import in_thread
from autoexport.plan import Blocks, Plan, make_plan, render_all
from autoexport.render import ruled_parent
from autoexport.renderer import Rendered, rendering
from autoexport.settings import Settings
from autoexport.snapshot import Reading, Totals
from autoexport.spool import Spool
from autoexport.tree import TreeBuilder

log = get_logger()


class Progress(Protocol):
    """Something that shows how far an export is."""

    def start(self, total_rows: int | None) -> None:
        """Begin; the number of rows that will be read, if it is known."""
        ...

    def advance(self, rows: int) -> None:
        """So many more rows are done."""
        ...

    def finish(self) -> None:
        """The rows are read."""
        ...


class _Silent:
    def start(self, total_rows: int | None) -> None: ...
    def advance(self, rows: int) -> None: ...
    def finish(self) -> None: ...


class Line:
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
        self.elsewhere_s = 0.0
        self._forgotten: str | None = None

    async def run(self, ledger: Ledger | None, *, full: bool, everything: str | None = None) -> Edition:
        """From the tables to rendered blocks; `everything` is a reason to render all of them."""
        started = time.monotonic()
        for spool in self.spooled:
            await spool.clear()
        mapping = await in_thread(_mapping, self.snapshot.catalog, self.settings, None if full else ledger)
        self.reading = Reading(self.snapshot, mapping)
        totals = await self.reading.totals()
        parents = await self.reading.parents()
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
        return Edition(
            source=self.source,
            formats=self.formats,
            spooled=self.spooled,
            settings=_settings_digest(self.settings),
            mapping=mapping,
            builder=self.builder,
            totals=totals,
            taken_at=self.snapshot.taken_at,
            plan=plan,
            records=records,
            rendered_images=sum(record.counts.images for record in fresh),
            position=await self._position(mapping, records),
            ledger=ledger if plan.ranges is not None else None,
            elsewhere_s=self.elsewhere_s,
        )

    # --- changes -------------------------------------------------------------------------------------

    async def _changes(self, mapping: Mapping, ledger: Ledger | None, reason: str | None) -> Found:
        if ledger is not None and reason is None:
            directory = self.settings.export_directory.absolute()
            settings, digest = _settings_digest(self.settings), mapping_digest(mapping)
            reason = ledger.misfit(self.source.identity, settings, digest, fingerprints(), directory)
        if ledger is None or reason is not None:
            return Found(render_all(reason or "there is no ledger"), Blocks([]), False)
        return await what_changed(self.reading, mapping, self.builder, ledger, self.settings.state_dir.absolute())

    async def _position(self, mapping: Mapping, records: Sequence[BlockRecord]) -> Position | None:
        if not await in_thread(can_be_kept, records, list(self.builder.places)):
            return None
        return await self.snapshot.position(mapping)

    # --- render --------------------------------------------------------------------------------------

    async def _render(
        self, mapping: Mapping, found: Found, ledger: Ledger | None, totals: Totals
    ) -> tuple[Plan, list[BlockRecord], list[BlockRecord]]:
        """The records of all blocks in the order of the tree's keys, and of those the rendered ones."""
        plan, rows = found.plan, totals.live.get("images", 0) + totals.live.get("annotations", 0)
        if plan.ranges is not None and ledger is not None:
            dirty = 1 - len(plan.keep) / max(1, len(found.blocks.records))
            fresh = await self._rendered(mapping, plan.ranges, int(rows * dirty), len(plan.keep))
            kept = [found.blocks.records[number] for number in plan.keep]
            if not await in_thread(conserved, kept, fresh, ledger, totals, found):
                lossy = await recount(self.reading, found.blocks, plan.keep)
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
                fetched_ahead(self.reading.blocks(ranges, kept)) as blocks,
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
            self.elsewhere_s += renderer.elsewhere_s
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


def _settings_digest(settings: Settings) -> str:
    from autoexport import __version__

    chosen = (__version__, *astuple(FormatOptions.of(settings)))
    return xxhash.xxh3_64_hexdigest(repr(chosen).encode("utf-8", "surrogateescape"))
