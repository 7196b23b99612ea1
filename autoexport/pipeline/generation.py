"""What is going to be published: everything that is known of it, its files laid out, its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

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
from autoexport.publishing.throttle import DiskThrottle
from autoexport.rendering.spool import Spool
from autoexport.rendering.tree import TreeBuilder
from autoexport.sources.contract import Position, Source


@dataclass(slots=True)
class Generation:
    """Everything that the stations before found out, apart from the snapshot, which is over.

    `ledger` is the one that the kept blocks come from; None if everything was rendered. `elsewhere_s` is how
    many seconds of a core a rendering process used. `courtesy`: an application needs the disk as well.
    """

    source: Source
    formats: Sequence[Format]
    spooled: Sequence[Spool]
    settings: str
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
    throttle: DiskThrottle | None = None

    def known(self, file_name: str) -> FileIdentity | None:
        """The identity of the published file that kept blocks are in."""
        return self.ledger.files.get(file_name) if self.ledger is not None else None

    def tree(self) -> Tree:
        """The finished tree; to be asked for once."""
        return self.builder.finish(self.taken_at.replace(microsecond=0), self.records)

    def certainly_differs(self) -> bool:
        """Whether a block has other bytes than before. The files tell that as well, once they are laid out.

        Only if the same ranges of images were rendered: bytes that were merely cut elsewhere are no difference.
        """
        if self.ledger is None:
            return False
        before = self.plan.replaced(self.ledger.blocks)
        after = [record for record in self.records if any(part.fresh for part in record.parts)]
        if list(map(_range, before)) != list(map(_range, after)):
            return False
        return list(map(_bytes, before)) != list(map(_bytes, after))


def _range(record: BlockRecord) -> tuple[Key, Key, Key]:
    return record.dataset, record.first, record.last


def _bytes(record: BlockRecord) -> list[tuple[int, int]]:
    return [(part.length, part.crc) for part in record.parts]


def lay_out_all(generation: Generation, tree: Tree) -> list[Layout]:
    """The layouts of all files of an edition."""
    layouts, place = [], 0
    for output in generation.formats:
        layouts.append(lay_out(output, tree, generation.records, place))
        place += output.has_blocks
    return layouts


def spool_of(generation: Generation, layout: Layout) -> int | None:
    """The descriptor of the spool that fresh blocks of a file are in; None for a file without blocks."""
    return next(
        (spool.descriptor for spool in generation.spooled if spool.output.file_name == layout.file_name), None
    )


def make_manifest(
    generation: Generation, tree: Tree, layouts: Sequence[Layout], previous: Manifest | None, duration_s: float
) -> Manifest:
    """The manifest of an edition that is laid out."""
    kept = sum(layout.kept_bytes for layout in layouts)
    return Manifest(
        generation=(previous.generation if previous is not None else 0) + 1,
        timestamp=tree.timestamp.isoformat().replace("+00:00", "Z"),
        database=generation.source.database,
        files={
            layout.file_name: FileRecord(layout.length, digest(layout.crc), output.rows(tree))
            for layout, output in zip(layouts, generation.formats, strict=True)
        },
        counts={
            "projects": len(tree.projects),
            "datasets": sum(len(project.datasets) for project in tree.projects),
            "images": tree.counts.images,
            "annotations": tree.counts.annotations,
            "labels": tree.total_labels,
        },
        orphans=unpublished(generation, tree),
        soft_deleted={name: number for name, number in generation.totals.soft_deleted.items() if number},
        repaired=tree.counts.repaired,
        guarded=tree.counts.guarded + sum(output.guarded(tree) for output in generation.formats),
        duration_seconds=round(duration_s, 3),
        rendered_images=generation.rendered_images,
        mode="full" if generation.plan.ranges is None else "incremental",
        kept_bytes=kept,
        rendered_bytes=sum(layout.length for layout in layouts) - kept,
    )


def unpublished(generation: Generation, tree: Tree) -> dict[str, int]:
    """Live rows that no parent leads to, by logical table."""
    published = {
        "datasets": sum(len(project.datasets) for project in tree.projects),
        "images": tree.counts.images,
        "annotations": tree.counts.annotations,
    }
    live = generation.totals.live
    return {name: live[name] - number for name, number in published.items() if name in live}
