"""Describes the next generation of the files, and computes its layouts and its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from autoexport.errors import AnnotationsLeftOut
from autoexport.formats.contract import FileSetFormat, FolderFormat, Format, RowFormat, SectionFormat, part_count
from autoexport.incremental.ledger import Ledger
from autoexport.incremental.plan import Plan
from autoexport.model.mapping import Mapping
from autoexport.model.scratch import Scratch
from autoexport.model.sections import BlockRecords, SectionRecord
from autoexport.model.tree import Totals, Tree
from autoexport.pipeline.row_files import RowFileSet
from autoexport.pipeline.sections import Sections
from autoexport.publishing.crc32 import digest
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout, SectionTexts, lay_out, lay_out_file
from autoexport.publishing.manifest import FileRecord, Manifest
from autoexport.publishing.pieces import Segment
from autoexport.publishing.splice import contents
from autoexport.rendering.spool import Spool
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.files import WORKING_FILES, disk_errors_explained
from autoexport.sources.contract import Position


@dataclass(slots=True)
class Generation:
    """The result of reading and rendering, after the snapshot is closed.

    `row_files` are the files that are not laid out block by block. `settings` is a digest of all that the bytes
    depend on beside the database. `ledger` is the ledger of the kept blocks; None if everything was rendered.
    `kept` are the unchanged sections by index, and `records` are the blocks of all others. `kinds` are the types
    of the keys of datasets and images. `kinds` and `position` are None if the next export cannot keep any block.
    `worker_cpu_s` is the CPU time of the rendering process in seconds. `left_out` names annotations that the
    mapping leaves out.
    """

    database: str
    row_files: RowFileSet
    formats: Sequence[Format]
    spooled: Sequence[Spool]
    scratch: Scratch
    mapping: Mapping
    builder: TreeBuilder
    settings: str
    totals: Totals
    taken_at: datetime
    plan: Plan
    records: BlockRecords
    kept: dict[int, SectionRecord]
    kinds: tuple[str, str] | None
    rendered_images: int
    position: Position | None
    ledger: Ledger | None
    worker_cpu_s: float = 0.0
    left_out: AnnotationsLeftOut | None = None
    sections: Sections = field(init=False)

    def __post_init__(self) -> None:
        published = self.ledger.sections if self.ledger is not None else ()
        self.sections = Sections(
            self.builder, self.formats, self.records, self.kept, list(published), self.scratch
        )

    def known(self, file_name: str) -> FileIdentity | None:
        """The identity of the published file that holds the kept blocks; None if no block is kept."""
        return self.ledger.files.get(file_name) if self.ledger is not None else None

    def tree(self) -> Tree:
        """Finish the tree; call it once. Raises `PublishError` if the disk is full."""
        with disk_errors_explained(WORKING_FILES):
            self.sections.lay_out()
        return self.sections.counted.tree(self.taken_at.replace(microsecond=0))

    def lay_out(self, tree: Tree) -> list[Layout]:
        """The layouts of all files, in the order of publication. Raises `PublishError` if the disk is full."""
        layouts: list[Layout] = []
        first = 0
        with disk_errors_explained(WORKING_FILES):
            for index, (output, texts) in enumerate(zip(self.formats, self.sections.texts, strict=True)):
                for layout in self._layouts_of(output, tree, first, texts):
                    layout.output = index
                    layouts.append(self._made(output, layout) if isinstance(output, RowFormat) else layout)
                first += part_count(output)
        return layouts

    def _layouts_of(self, output: Format, tree: Tree, first: int, texts: SectionTexts | None) -> Iterator[Layout]:
        if isinstance(output, FileSetFormat):
            for file in output.files(tree):
                yield lay_out_file(file, output.separator, self.records, first, self.scratch)
        else:
            yield lay_out(output, tree, self.records, first, texts, self.scratch)

    def _made(self, output: RowFormat, rows: Layout) -> Layout:
        made = self.row_files.layout(rows.file_name)
        if made is not None:
            return made
        (spool,) = self.spools_of(rows)
        return self.row_files.make(output, rows, spool, self.known(rows.file_name))

    def spools_of(self, layout: Layout) -> list[int]:
        """The descriptors of the spools with the fresh blocks of a file; empty for a file without blocks."""
        count = part_count(self.formats[layout.output])
        spools = [spool.descriptor for spool in self.spooled[layout.first : layout.first + count]]
        made = self.row_files.descriptor(layout.file_name)
        return [*spools, made] if made is not None else spools

    def rows_left_out(self, tree: Tree) -> dict[str, dict[str, int]]:
        """The number of rows that the files of a format leave out, by format and reason."""
        found = {
            output.file_name: output.left_out(tree) for output in self.formats if isinstance(output, FileSetFormat)
        }
        return {name: reasons for name, reasons in found.items() if reasons}

    def folders(self, tree: Tree) -> dict[str, FileRecord]:
        """The folders of small files by name, as the manifest has them."""
        return {
            folder.name: FileRecord(folder.bytes, folder.digest, folder.rows)
            for output in self.formats
            if isinstance(output, FolderFormat)
            for folder in output.folders(tree)
        }

    def small_files(self) -> Iterator[tuple[str, bytes]]:
        """The path and the bytes of each small file of the rendered blocks."""
        first = 0
        for output in self.formats:
            if isinstance(output, FolderFormat):
                place = first + output.folder_part
                for record in self.records:
                    part = record.parts[place]
                    if part.fresh and part.length:
                        ((project, _),), _ = self.builder.owners([record.dataset])
                        segment = Segment(True, part.offset, part.length)
                        pieces = contents(segment, [self.spooled[place].descriptor], -1, WORKING_FILES)
                        yield from output.folder_files(b"".join(pieces), project)
            first += part_count(output)

    def unpublished(self, tree: Tree) -> dict[str, int]:
        """The number of live rows less that of published ones, by logical table."""
        live = self.totals.live
        return {name: live[name] - count for name, count in _published(tree).items() if name in live}

    def orphans(self, tree: Tree) -> dict[str, int]:
        """The number of live rows that have no parent, by logical table."""
        return self.totals.orphans(_published(tree))

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
                layout.file_name: FileRecord(layout.length, digest(layout.crc), layout.rows) for layout in layouts
            }
            | self.folders(tree),
            counts={
                "projects": len(tree.projects),
                "datasets": tree.count_datasets(),
                "images": tree.counts.images,
                "annotations": tree.counts.annotations,
                "labels": tree.total_labels,
            },
            orphans=self.orphans(tree),
            soft_deleted={name: count for name, count in self.totals.soft_deleted.items() if count},
            repaired=tree.counts.repaired,
            guarded=tree.counts.guarded + self._guarded(tree, layouts),
            redacted=tree.counts.redacted,
            left_out=self.rows_left_out(tree),
            duration_seconds=round(duration_s, 3),
            rendered_images=self.rendered_images,
            mode="full" if self.plan.ranges is None else "incremental",
            kept_bytes=kept,
            rendered_bytes=sum(layout.length for layout in layouts) - kept,
        )

    def _guarded(self, tree: Tree, layouts: Sequence[Layout]) -> int:
        """The number of guarded cells outside the blocks."""
        cells = sum(layout.guarded for layout in layouts)
        return cells + sum(
            output.guarded(tree) for output in self.formats if not isinstance(output, SectionFormat)
        )


def _published(tree: Tree) -> dict[str, int]:
    return {
        "datasets": tree.count_datasets(),
        "images": tree.counts.image_rows,
        "annotations": tree.counts.annotation_rows,
    }
