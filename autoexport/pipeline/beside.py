"""Stages the files that stand beside the exported ones: the page, the history, the progress and the changes.

They are written only with a publish. "Incremental equals full" does not hold for them: they tell of the publishes,
not of the database alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoexport.model.scratch import MemoryScratch
from autoexport.model.tree import Tree
from autoexport.overview import change_log
from autoexport.overview.change_log import CHANGES_NAME, LINE_BEGINNING
from autoexport.overview.facts import PageFacts
from autoexport.overview.history import HEADER, HISTORY_NAME, History, HistoryRow
from autoexport.overview.page import MARK, PAGE_NAME, page
from autoexport.overview.progress_log import BEGINNING as PROGRESS_BEGINNING
from autoexport.overview.progress_log import PROGRESS_NAME, ProgressLog
from autoexport.overview.survey import DatasetRow, ProjectRow, survey
from autoexport.pipeline.change_log import differences, record_format
from autoexport.pipeline.generation import Generation
from autoexport.pipeline.job import ExportJob
from autoexport.publishing.contract import Target
from autoexport.publishing.crc32 import digest
from autoexport.publishing.layout import Layout
from autoexport.publishing.manifest import BESIDE_NAMES, BesideRecord, Manifest
from autoexport.publishing.pieces import Pieces
from autoexport.publishing.splice import Staged
from autoexport.runtime.files import WORKING_FILES, disk_errors_explained


def beside_names(job: ExportJob) -> set[str]:
    """The names of the files beside the exported ones that are switched on."""
    logged = job.history and record_format(job.formats) is not None
    wanted = {
        PAGE_NAME: job.page,
        HISTORY_NAME: job.history,
        PROGRESS_NAME: job.page and job.history,
        CHANGES_NAME: logged,
    }
    return {name for name in wanted if wanted[name]}


_BEGINNINGS = {
    PAGE_NAME: MARK, HISTORY_NAME: HEADER, PROGRESS_NAME: PROGRESS_BEGINNING, CHANGES_NAME: LINE_BEGINNING
}  # fmt: skip
_BEGINNING_BYTES = 2_000


def left_beside(job: ExportJob) -> list[str]:
    """The files that are switched off and still stand there, as this program once wrote them."""
    off = [name for name in BESIDE_NAMES if name not in beside_names(job)]
    return [name for name in off if _BEGINNINGS[name] in published(job.target, name)[:_BEGINNING_BYTES]]


def all_there(job: ExportJob, manifest: Manifest) -> bool:
    """Whether the manifest names the wanted files, and each exists. Their contents do not matter."""
    return set(manifest.beside) == beside_names(job) and all(
        job.target.identify(name, 0) is not None for name in manifest.beside
    )


@dataclass(slots=True)
class Beside:
    """The files beside those of one generation. `staged` receives each as soon as it lies on the disk."""

    job: ExportJob
    generation: Generation
    tree: Tree
    staged: list[Staged]
    _records: dict[str, BesideRecord] = field(default_factory=dict)

    def stage(self, manifest: Manifest) -> Manifest:
        """Stage the wanted files; the manifest with their records. Raises `PublishError`."""
        history = History()
        if self.job.history:
            history = History(published(self.job.target, HISTORY_NAME))
            history.add(self._row(manifest))
            self._add(HISTORY_NAME, history.text())
        if CHANGES_NAME in beside_names(self.job):
            self._add(CHANGES_NAME, self._changes(manifest))
        if self.job.page:
            with disk_errors_explained(WORKING_FILES):
                found = survey(self.tree, self.generation.sections.counted)
            progress = ProgressLog()
            if self.job.history:
                progress = ProgressLog(published(self.job.target, PROGRESS_NAME))
                rows: tuple[ProjectRow | DatasetRow, ...] = (*found.projects, *found.datasets)
                progress.add(self.tree.timestamp, ((row.key, row.images, row.labeled) for row in rows))
                self._add(PROGRESS_NAME, progress.text())
            self._add(PAGE_NAME, page(self._facts(manifest), found, history, progress))
        return replace(manifest, beside=self._records)

    def _add(self, name: str, text: bytes) -> None:
        layout = Layout(name, Pieces(MemoryScratch()), length=len(text), crc=zlib.crc32(text))
        layout.pieces.add_text(text)
        self.staged.append(self.job.target.stage(layout, (), None, throttled=False))
        self._records[name] = BesideRecord(layout.length, digest(layout.crc))

    def _changes(self, manifest: Manifest) -> bytes:
        number, timestamp = manifest.generation, manifest.timestamp
        with disk_errors_explained(WORKING_FILES):
            found = differences(self.generation, self.job.target.directory)
        added = change_log.full_line(number, timestamp)
        if found is not None:
            added = change_log.line(number, timestamp, found)
        return change_log.with_line(published(self.job.target, CHANGES_NAME), number, added)

    def _row(self, manifest: Manifest) -> HistoryRow:
        counts, splits = self.tree.counts, self.tree.counts.splits
        return HistoryRow(
            generation=manifest.generation,
            timestamp=self.tree.timestamp,
            projects=len(self.tree.projects),
            datasets=self.tree.count_datasets(),
            images=counts.images,
            labeled_images=counts.labeled,
            verified_images=counts.verified,
            annotations=counts.annotations,
            train_count=splits["train"],
            val_count=splits["val"],
            test_count=splits["test"],
            unassigned_count=splits["unassigned"],
            mode=manifest.mode,
            seconds=manifest.duration_seconds,
        )

    def _facts(self, manifest: Manifest) -> PageFacts:
        files: dict[str, tuple[int, int | None]] = {
            name: (record.bytes, record.rows) for name, record in manifest.files.items()
        }
        files |= _sizes(self._records)
        return PageFacts(
            database=manifest.database,
            generation=manifest.generation,
            timestamp=self.tree.timestamp,
            mode=manifest.mode,
            seconds=manifest.duration_seconds,
            counts=self.tree.counts,
            labels=self.tree.total_labels,
            files=files,
            orphans=manifest.orphans,
            soft_deleted=manifest.soft_deleted,
        )


def published(target: Target, name: str) -> bytes:
    """The bytes of a published file; empty if there is none."""
    return next(target.read_all(name), b"")


def _sizes(records: Mapping[str, BesideRecord]) -> dict[str, tuple[int, int | None]]:
    return {name: (record.bytes, None) for name, record in records.items()}
