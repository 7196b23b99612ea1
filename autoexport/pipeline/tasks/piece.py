"""Exports one range of a planned snapshot: reads it, encodes it, and stages its data files in the lake."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from autoexport.errors import ConfigurationError
from autoexport.formats import chosen_formats
from autoexport.formats.contract import RowFormat
from autoexport.model.blocks import BlockRows, Stretch
from autoexport.pipeline.lake import TABLES
from autoexport.pipeline.mapped import mapping_of
from autoexport.pipeline.tasks.job import TasksJob, held, rows_digest
from autoexport.pipeline.tasks.places import stretch_of
from autoexport.publishing.lake.requests import Source
from autoexport.rendering.bodies import all_bodies_of, joined
from autoexport.rendering.row_groups import RowFiles, write_groups
from autoexport.rendering.spool import ScratchFile
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.files import WORKING_FILES, create_nameless, disk_errors_explained, write_all
from autoexport.runtime.progress import Progress
from autoexport.runtime.threads import in_thread
from autoexport.sources.contract import Snapshot
from autoexport.sources.reader import SnapshotReader
from autoexport.values.block import ruled_parents


async def export_range(job: TasksJob, snapshot: str, task: int, of: int, progress: Progress) -> Mapping[str, int]:
    """Export a range, and record it in the lake; the number of its rows by table.

    It may be repeated: the last record counts. Raises `SnapshotGone` and `AutoexportError`.
    """
    plan, _ = await job.found(snapshot)
    if of != plan["of"]:
        raise ConfigurationError(
            f"The plan with the snapshot {snapshot} has {plan['of']} ranges, not {of}.",
            hint=f"Repeat the command with --of {plan['of']}.",
        )
    stretch = stretch_of(plan["places"], task)
    with contextlib.ExitStack() as stack:
        piece = _Piece(job, stack)
        if stretch is not None:
            progress.start(sum(plan["counted"][:2]) // of)
            async with job.adopting().adopted(*held(plan)) as opened:
                await piece.read(opened, plan, stretch, progress)
            progress.finish()
        with disk_errors_explained(WORKING_FILES):
            sources = await in_thread(piece.encoded)
        record = {
            **{name: plan[name] for name in ("plan", "snapshot", "of")},
            "task": task,
            "counts": piece.counts,
            "labels": sorted(piece.labels),
        }
        rows: Mapping[str, int] = (await job.asked("stage", record, sources)).task["rows"]
        return rows


class _Piece:
    """The rows of a range in files without names, which are gone when the process ends.

    `counts` are the numbers of images and annotations, `labels` the pairs of project and label if the labels are
    the names that annotations carry.
    """

    def __init__(self, job: TasksJob, stack: contextlib.ExitStack) -> None:
        self.counts = {"images": 0, "annotations": 0}
        self.labels: set[tuple[str, str]] = set()
        self._job = job
        self._stack = stack
        self._outputs = [output for output in chosen_formats(job.options) if isinstance(output, RowFormat)]
        with disk_errors_explained(WORKING_FILES):
            self._spools = [self._file() for _ in self._outputs]
        self._rows = [0 for _ in self._outputs]

    def _file(self) -> int:
        descriptor = create_nameless(Path(gettempdir()) / f"spool-{secrets.token_hex(8)}")
        self._stack.callback(os.close, descriptor)
        return descriptor

    async def read(
        self, snapshot: Snapshot, plan: Mapping[str, Any], stretch: Stretch, progress: Progress
    ) -> None:
        """Read the rows. Raises `AutoexportError`."""
        mapping = await in_thread(mapping_of, snapshot.catalog, self._job.tables, None)
        if rows_digest(mapping) != plan["rows"]:
            raise ConfigurationError(
                "The plan was made with other settings, another role or another version of this program.",
                hint="Run the plan, its ranges and the commit with the same ones.",
            )
        images, annotations, keyless = plan["counted"]
        reader = SnapshotReader(snapshot, mapping)
        with contextlib.closing(ScratchFile(Path(gettempdir()))) as scratch:
            parents = await reader.parents()
            builder = TreeBuilder(parents, mapping, self._job.source.database, ruled_parents, scratch)
            blocks: AsyncGenerator[BlockRows, None] = reader.stretch(
                stretch, (images, annotations, frozenset(keyless)), 0
            )
            async with contextlib.aclosing(blocks):
                async for rows in blocks:
                    with disk_errors_explained(WORKING_FILES):
                        self._add(rows, builder)
                    progress.advance(len(rows.spans) + sum(rows.spans))

    def _add(self, rows: BlockRows, builder: TreeBuilder) -> None:
        owners, _ = builder.owners([dataset for dataset, _ in rows.blocks()])
        pieces = all_bodies_of(rows, builder.mapping, self._outputs, owners)
        for index, (output, spool) in enumerate(zip(self._outputs, self._spools, strict=True)):
            bodies = [piece.bodies[index] for piece in pieces]
            self._rows[index] += sum(map(output.measure, bodies))
            write_all(spool, joined(bodies, b""))
        for piece, (project, _) in zip(pieces, owners, strict=True):
            self.counts["images"] += piece.counts.images
            self.counts["annotations"] += piece.counts.annotations
            if builder.outline.labels_from_names:
                self.labels.update((str(project.key), name) for name in piece.counts.labels)

    def encoded(self) -> Sequence[Source]:
        """The Parquet files of the rows. Raises `OSError`."""
        sources = []
        for output, spool, rows, name in zip(self._outputs, self._spools, self._rows, TABLES, strict=True):
            target = self._file()
            write_groups(output, [(True, 0, rows)], RowFiles(spool, None, target))
            # The process that works on the lake opens the file through this one.
            sources.append(Source(name, f"/proc/{os.getpid()}/fd/{target}"))
        return sources
