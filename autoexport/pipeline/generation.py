"""Describes the next generation of the files, and computes its layouts and its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from autoexport.errors import AnnotationsLeftOut
from autoexport.formats.contract import Format
from autoexport.incremental.ledger import Ledger
from autoexport.incremental.plan import Plan
from autoexport.model.blocks import BlockRecord
from autoexport.model.catalog import Key
from autoexport.model.mapping import Mapping
from autoexport.model.tree import Totals, Tree
from autoexport.publishing.crc32 import digest
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout, lay_out
from autoexport.publishing.manifest import FileRecord, Manifest
from autoexport.rendering.spool import Spool
from autoexport.rendering.tree import TreeBuilder
from autoexport.sources.contract import Position


@dataclass(slots=True)
class Generation:
    """The result of reading and rendering, after the snapshot is closed.

    `ledger` is the ledger of the kept blocks; None if everything was rendered. `position` is None if the next
    export cannot keep any block. `worker_cpu_s` is the CPU time of the rendering process in seconds. `left_out`
    names annotations that the mapping leaves out.
    """

    database: str
    formats: Sequence[Format]
    spooled: Sequence[Spool]
    mapping: Mapping
    builder: TreeBuilder
    totals: Totals
    taken_at: datetime
    plan: Plan
    records: list[BlockRecord]
    rendered_images: int
    position: Position | None
    ledger: Ledger | None
    worker_cpu_s: float = 0.0
    left_out: AnnotationsLeftOut | None = None

    def known(self, file_name: str) -> FileIdentity | None:
        """The identity of the published file that holds the kept blocks; None if no block is kept."""
        return self.ledger.files.get(file_name) if self.ledger is not None else None

    def tree(self) -> Tree:
        """Finish the tree; call it once."""
        return self.builder.finish(self.taken_at.replace(microsecond=0), self.records)

    def certainly_differs(self) -> bool:
        """Whether a rendered block certainly has other bytes than before; the layouts tell as well, but later.

        Compares only blocks of the same ranges of images. Blocks that were cut at other images prove nothing.
        """
        if self.ledger is None:
            return False
        before = self.plan.replaced(self.ledger.blocks)
        after = [record for record in self.records if any(part.fresh for part in record.parts)]
        if list(map(_range, before)) != list(map(_range, after)):
            return False
        return list(map(_bytes, before)) != list(map(_bytes, after))

    def lay_out(self, tree: Tree) -> list[Layout]:
        """The layouts of all files, in the order of publication."""
        layouts, part_index = [], 0
        for output in self.formats:
            layouts.append(lay_out(output, tree, self.records, part_index))
            part_index += output.has_blocks
        return layouts

    def spool_of(self, layout: Layout) -> int | None:
        """The descriptor of the spool with the fresh blocks of a file; None for a file without blocks."""
        spools = (spool for spool in self.spooled if spool.output.file_name == layout.file_name)
        return next((spool.descriptor for spool in spools), None)

    def unpublished(self, tree: Tree) -> dict[str, int]:
        """The number of live rows that have no parent, by logical table."""
        published = {
            "datasets": sum(len(project.datasets) for project in tree.projects),
            "images": tree.counts.image_rows,
            "annotations": tree.counts.annotation_rows,
        }
        live = self.totals.live
        return {name: live[name] - count for name, count in published.items() if name in live}

    def manifest(
        self, tree: Tree, layouts: Sequence[Layout], previous: Manifest | None, duration_s: float
    ) -> Manifest:
        """The manifest for these layouts; `duration_s` is the duration of the export in seconds."""
        kept = sum(layout.kept_bytes for layout in layouts)
        return Manifest(
            generation=(previous.generation if previous is not None else 0) + 1,
            timestamp=tree.timestamp.isoformat().replace("+00:00", "Z"),
            database=self.database,
            files={
                layout.file_name: FileRecord(layout.length, digest(layout.crc), output.rows(tree))
                for layout, output in zip(layouts, self.formats, strict=True)
            },
            counts={
                "projects": len(tree.projects),
                "datasets": sum(len(project.datasets) for project in tree.projects),
                "images": tree.counts.images,
                "annotations": tree.counts.annotations,
                "labels": tree.total_labels,
            },
            orphans=self.unpublished(tree),
            soft_deleted={name: count for name, count in self.totals.soft_deleted.items() if count},
            repaired=tree.counts.repaired,
            guarded=tree.counts.guarded + sum(output.guarded(tree) for output in self.formats),
            redacted=tree.counts.redacted,
            duration_seconds=round(duration_s, 3),
            rendered_images=self.rendered_images,
            mode="full" if self.plan.ranges is None else "incremental",
            kept_bytes=kept,
            rendered_bytes=sum(layout.length for layout in layouts) - kept,
        )


def _range(record: BlockRecord) -> tuple[Key, Key, Key]:
    return record.dataset, record.first, record.last


def _bytes(record: BlockRecord) -> list[tuple[int, int]]:
    return [(part.length, part.crc) for part in record.parts]
