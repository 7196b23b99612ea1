"""The steps of one export that need the snapshot: map, find changes, plan, render.

It is loaded while the snapshot is taken, because it loads SQLAlchemy.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from autoexport.errors import AnnotationsLeftOut, UndecodableText
from autoexport.formats import chosen_formats
from autoexport.formats.contract import SHAPES, FileSetFormat, Format, SectionFormat
from autoexport.incremental.changes import Assessment, assess, assess_without_ledger, changes_since, judge
from autoexport.incremental.key_kinds import kinds_of
from autoexport.incremental.ledger import Ledger
from autoexport.incremental.plan import Plan
from autoexport.mapping.mapper import mapping_digest
from autoexport.model.blocks import Changes, Everything, Range
from autoexport.model.scratch import Scratch
from autoexport.model.sections import BlockRecords, SectionRecord
from autoexport.model.tree import Totals
from autoexport.pipeline.generation import Generation
from autoexport.pipeline.job import ExportJob
from autoexport.pipeline.mapped import mapping_of, narrowed, shape_fields
from autoexport.pipeline.one_reader import rendered_here
from autoexport.pipeline.ranges import Crew, Ranges
from autoexport.pipeline.recording import order_of
from autoexport.pipeline.row_files import RowFileSet
from autoexport.pipeline.training import Training, learn_all, names_in, prepare
from autoexport.rendering.renderer import rendering
from autoexport.rendering.spool import Spool
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.files import WORKING_FILES, disk_errors_explained
from autoexport.runtime.logs import get_logger
from autoexport.runtime.progress import NullProgress, Progress
from autoexport.runtime.threads import in_thread
from autoexport.sources.check_queries import left_out, refuse_conditions
from autoexport.sources.contract import Snapshot
from autoexport.sources.reader import SnapshotReader
from autoexport.values.block import ruled_parents

log = get_logger()

_EXPANDED_ROWS = 4
"""A stored row that holds several annotations takes about as long to render as so many rows."""


class Derivation:
    """The steps of one export that need the snapshot."""

    def __init__(
        self,
        job: ExportJob,
        snapshot: Snapshot,
        spooled: Sequence[Spool],
        scratch: Scratch,
        row_files: RowFileSet,
        crew: Crew,
        progress: Progress | None,
        *,
        complete: bool,
    ) -> None:
        self.job = job
        self.snapshot = snapshot
        self.spooled = spooled
        self.scratch = scratch
        self.row_files = row_files
        self.crew, self.worker_cpu_s = crew, 0.0
        self.progress = progress or NullProgress()
        self.complete = complete
        self.formats: Sequence[Format] = job.formats
        self.options, self.settings = job.options, job.digest
        self.training: Training | None = None
        self.changes: Changes | Everything | None = None

    async def generation(self, ledger: Ledger | None, *, full: bool) -> Generation:
        """Derive strictly. If a text is not valid, read again leniently."""
        try:
            return await self.run(ledger, full=full)
        except UndecodableText as error:
            log.debug("snapshot.reread", reason=str(error))
        await self.snapshot.read_leniently()
        self.crew.workers = 1
        try:
            return await self.run(ledger, full=full)
        except UndecodableText as error:
            # A condition cannot name a key that is not valid text, so read everything, without conditions.
            return await self.run(ledger, full=full, everything=str(error))

    async def run(self, ledger: Ledger | None, *, full: bool, everything: str | None = None) -> Generation:
        """Map, plan and render. `everything` is a reason to render all blocks."""
        mapping = await in_thread(mapping_of, self.snapshot.catalog, self.job.tables, None if full else ledger)
        self.mapping = mapping = narrowed(mapping, self.job.formats)
        if shapes := shape_fields(mapping):
            self.options = self.row_files.options = {**self.options, SHAPES: shapes}
            self.formats = chosen_formats(self.options)
            self.settings = f"{self.settings} {' '.join(shapes)}"
        lost = await left_out(self.snapshot, mapping)
        if lost is not None and self.complete:
            raise lost
        self.reader = SnapshotReader(self.snapshot, mapping)
        await refuse_conditions(self.reader)
        reason = "it was asked for" if full else everything
        if ledger is not None and reason is None and mapping.has_queries:
            # If no table changed, the snapshot knows the counts of the queries, too.
            self.changes = await changes_since(self.snapshot, mapping, ledger, self.job.state)
        totals = await self.reader.totals()
        self.builder = await in_thread(
            TreeBuilder,
            await self.reader.parents(),
            mapping,
            self.job.source.database,
            ruled_parents,
            self.scratch,
        )
        if any(isinstance(output, FileSetFormat) for output in self.job.formats):
            await self._prepare_training()
        generation = await self._generation(ledger, reason, totals, lost)
        if generation is None:
            # Annotations have names that no class had: now that they are known, the rows can be rendered.
            generation = await self._generation(ledger, reason, totals, lost)
        assert generation is not None  # noqa: S101 - all names are known
        return generation

    async def _prepare_training(self) -> None:
        job = self.job
        with disk_errors_explained(WORKING_FILES):
            training = await prepare(self.reader, self.builder, job.options, job.target, job.state)
        self.training = training
        self.settings = f"{self.settings} {training.digest}"
        self.options = training.options(self.options)
        self.formats = chosen_formats(self.options)

    async def _generation(
        self, ledger: Ledger | None, reason: str | None, totals: Totals, lost: AnnotationsLeftOut | None
    ) -> Generation | None:
        """Plan and render; None if annotations have classes that were not known."""
        started = time.monotonic()
        for spool in self.spooled:
            await spool.clear()
        if self.training is not None:
            self.builder.training = self.training.of_projects()
        assessment = await self._assess(ledger, reason)
        await self._learn_in_advance(assessment)
        log.debug(
            "plan.made",
            mode=assessment.plan.mode,
            reason=assessment.plan.reason,
            seconds=round(time.monotonic() - started, 3),
        )
        started = time.monotonic()
        plan, kept, records, fresh = await self._render(assessment, ledger, totals)
        if self.training is not None and await in_thread(self.training.learn, self.builder, names_in(fresh)):
            return None
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
            row_files=self.row_files,
            formats=self.formats,
            settings=self.settings,
            spooled=self.spooled,
            scratch=self.scratch,
            mapping=self.mapping,
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

    async def _learn_in_advance(self, assessment: Assessment) -> None:
        """Learn the classes before everything is rendered, if there are no rows of labels: it takes less time."""
        training = self.training
        if training is not None and assessment.plan.ranges is None and self.builder.outline.labels_from_names:
            await learn_all(training, self.reader, self.builder)
            self.builder.training = training.of_projects()

    # --- changes -------------------------------------------------------------------------------------

    async def _assess(self, ledger: Ledger | None, reason: str | None) -> Assessment:
        """Plan what to render. `reason` is a reason to render everything; None if there is none so far."""
        if ledger is None:
            return assess_without_ledger(reason or "there is no ledger")
        job, digest = self.job, mapping_digest(self.mapping)
        misfit = reason or await in_thread(
            ledger.misfit, job.source.identity, self.settings, digest, job.encoders(), job.target.identify
        )
        if misfit is None and await in_thread(job.target.small_files_open):
            misfit = "an export ended while it wrote label files"
        if misfit is not None:
            return assess_without_ledger(misfit)
        sectioned = all(isinstance(output, SectionFormat) for output in job.formats)
        if self.changes is None:
            self.changes = await changes_since(self.snapshot, self.mapping, ledger, job.state)
        return await assess(self.reader, self.builder, ledger, self.changes, sectioned)

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
            self.snapshot.keep()
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
                order = sorted(range(len(together)), key=list(map(order_of, together)).__getitem__)
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
        made = BlockRecords(), 0.0
        if ranges is None:
            made = await self._by_crew(expected) or await self._here(None, expected, 0)
        elif ranges:
            made = await self._here(ranges, expected, kept)
        self.progress.finish()
        records, cpu_s = made
        self.worker_cpu_s += cpu_s
        return records

    async def _here(self, ranges: Sequence[Range] | None, expected: int, kept: int) -> tuple[BlockRecords, float]:
        renderer = rendering(self.spooled, self.formats, self.mapping, self.options, expected)
        return await rendered_here(self.reader.blocks(ranges, kept), self.builder, renderer, self.progress)

    async def _by_crew(self, expected: int) -> tuple[BlockRecords, float] | None:
        """Render everything in several processes; None if one has to do it."""
        here = self.reader, self.builder, self.job.source.database, self.options, self.job.state
        return await Ranges(self.crew, *here, self.spooled, self.progress).render(expected)
