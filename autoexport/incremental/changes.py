"""Decides which blocks of the ledger changed, and proves that the others lost no row.

A source tells which rows may be new or different. Deleted rows leave no trace, but a block whose rows are
unchanged can only lose rows. If nothing else can have happened, the sums of the counts tell whether rows were lost
(`conserved`). Otherwise the rows of every kept block are counted in the snapshot (`recount`).
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from autoexport.incremental.key_kinds import incomparable, kinds
from autoexport.incremental.ledger import Ledger
from autoexport.incremental.plan import Blocks, Plan, make_plan, render_all
from autoexport.incremental.position import load_position
from autoexport.model.blocks import BlockRecord, Changes, Everything, Range
from autoexport.model.catalog import Key
from autoexport.model.mapping import Mapping
from autoexport.model.sections import BlockRecords, SectionRecord
from autoexport.model.tree import Totals
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import in_thread
from autoexport.runtime.wording import counted
from autoexport.sources.contract import Snapshot
from autoexport.sources.reader import SnapshotReader

_KEYS_AT_ONCE = 10_000
_DATASETS_AT_ONCE = 256

log = get_logger()


@dataclass(slots=True)
class Assessment:
    """The plan before rendering. `trusted`: equal sums of counts prove that no row was lost.

    `kept` are the sections, by index, in which nothing changed. `blocks` are the blocks of the ledger's other
    sections. `unmoved`: the source says that no row of images and annotations is new, different or gone.
    """

    plan: Plan
    blocks: Blocks
    trusted: bool
    kept: dict[int, SectionRecord] = field(default_factory=dict)
    unmoved: bool = False

    def kept_blocks(self) -> int:
        """The number of blocks in the kept sections."""
        return sum(section.sums.blocks for section in self.kept.values())

    def dirty_share(self) -> float:
        """The share of the ledger's blocks that the plan does not keep."""
        kept = self.kept_blocks()
        return 1 - (len(self.plan.keep) + kept) / max(1, len(self.blocks.records) + kept)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision after the dirty ranges were rendered and counted.

    `plan` is final: it is to render everything, or the earlier plan, perhaps with fewer kept blocks. `kept` are
    the sections that are kept as a whole. `lost` are the ranges of the blocks that lost rows. They have to be
    rendered as well, and `lost_share` is their share of all blocks.
    """

    plan: Plan
    kept: dict[int, SectionRecord] = field(default_factory=dict)
    lost: tuple[Range, ...] = ()
    lost_share: float = 0.0


def assess_without_ledger(reason: str) -> Assessment:
    """The assessment without a usable ledger: render everything. `reason` says why."""
    return Assessment(render_all(reason), Blocks(), False)


async def changes_since(snapshot: Snapshot, mapping: Mapping, ledger: Ledger, state: Path) -> Changes | Everything:
    """The changes since the ledger was written. `state` is the private directory."""
    since = load_position(state, ledger.generation)
    if since is None:
        return Everything(await snapshot.obstacle(mapping) or "the position of the last export is unknown")
    return await snapshot.changes(mapping, since)


async def assess(
    reader: SnapshotReader, builder: TreeBuilder, ledger: Ledger, changes: Changes | Everything, sectioned: bool
) -> Assessment:
    """Plan the export from the changes since the ledger was written.

    `sectioned`: every format renders sections, so that unchanged sections can be kept.
    """
    if isinstance(changes, Everything):
        return assess_without_ledger(changes.reason)
    found = await in_thread(_Comparison, builder, ledger, sectioned)
    return await _assess_changes(reader, builder, ledger, changes, found)


class _Comparison:
    """Compares the sections of the ledger with the sections of the snapshot.

    `kept` are the sections without a known change. `blocks` are the blocks of all others.
    """

    def __init__(self, builder: TreeBuilder, ledger: Ledger, sectioned: bool) -> None:
        known = {section.digest: section for section in ledger.sections}
        self._outline = builder.outline
        self._ledger = ledger
        self.kept: dict[int, SectionRecord] = {}
        self.blocks = Blocks()
        self.datasets: list[Key] = []
        """The published datasets that are in no kept section."""
        self.published: set[Key] = set()
        """The datasets of the ledger that are in no kept section."""
        for index, section in enumerate(self._outline.sections):
            record = known.pop(section.digest, None) if sectioned and section.kind != "head" else None
            if record is not None:
                self.kept[index] = record
            else:
                self.datasets += self._outline.keys_of(index)
        for record in known.values():
            self._add(record)

    def open(self, dataset: Key) -> None:
        """Do not keep the section of a dataset as a whole."""
        self.open_section(self._outline.section_of(dataset))

    def open_section(self, index: int) -> None:
        """Do not keep this section as a whole: its blocks are looked at one by one."""
        record = self.kept.pop(index, None)
        if record is not None:
            self.datasets += self._outline.keys_of(index)
            self._add(record)

    def _add(self, record: SectionRecord) -> None:
        self.published.update(record.datasets())
        self.blocks.add(record.blocks(self._ledger.block_files))


async def _assess_changes(
    reader: SnapshotReader, builder: TreeBuilder, ledger: Ledger, changes: Changes, found: _Comparison
) -> Assessment:
    if len({*kinds(builder.datasets), ledger.kinds[0]} - {""}) > 1:
        return assess_without_ledger("there are keys of several types")
    blocks = found.blocks
    if reader.tables.named_otherwise():
        # A dataset that gets a new name can adopt old images that refer to this name.
        for index in [index for index, record in found.kept.items() if record.empty]:
            found.open_section(index)
    dirty: set[int] = set()
    whole: set[Key] = set()
    parented = 0
    keys = iter(changes.images)
    while batch := list(islice(keys, _KEYS_AT_ONCE)):
        for dataset, image in await reader.places(batch):
            parented += 1
            if incomparable(ledger.kinds, dataset, image):
                return assess_without_ledger("there are keys of several types")
            if dataset in builder.datasets:
                found.open(dataset)
            block = blocks.of(dataset, image)
            if block is None:
                whole.add(dataset)
            else:
                dirty.add(block)
    whole |= set(found.datasets) - found.published
    if reader.tables.named_otherwise():
        whole |= {dataset for dataset in found.datasets if dataset not in blocks.indexes}
    dirty |= await in_thread(_other_parents, builder, blocks)
    trusted = (
        not changes.orphans_seen
        and parented == len(changes.images)
        and set(found.datasets) == found.published
        and reader.tables.is_primary_key("images")
        and reader.tables.links_by_primary_key()
    )
    count = len(changes.images)
    reason = changes.reason or f"{counted(count, 'image')} may have changed"
    assessment = Assessment(render_all(reason), blocks, trusted, found.kept, changes.unmoved)
    others = assessment.kept_blocks()
    plan = make_plan(blocks, builder.datasets, dirty, whole, reason, others=others)
    assessment.plan = replace(plan, changed_images=count)
    return assessment


def _other_parents(builder: TreeBuilder, blocks: Blocks) -> set[int]:
    """The blocks that repeat changed values of their project or dataset."""
    dirty: set[int] = set()
    datasets = iter([dataset for dataset in blocks.indexes if dataset in builder.datasets])
    while batch := list(islice(datasets, _DATASETS_AT_ONCE)):
        for dataset, parents in zip(batch, builder.owners(batch)[1], strict=True):
            dirty.update(index for index in blocks.indexes[dataset] if blocks.records[index].parents != parents)
    return dirty


async def judge(
    reader: SnapshotReader,
    builder: TreeBuilder,
    assessment: Assessment,
    fresh: BlockRecords,
    ledger: Ledger,
    totals: Totals,
) -> Verdict:
    """Decide which kept blocks are still right. `fresh` are the rendered blocks of the dirty ranges.

    `totals` are the row counts of the snapshot.
    """
    plan, kept = assessment.plan, assessment.kept
    if assessment.unmoved or await in_thread(conserved, assessment, fresh, ledger, totals):
        return Verdict(plan, kept)
    # Count the blocks of the kept sections too.
    blocks, keep = assessment.blocks, list(plan.keep)
    own = len(blocks.records)
    sections = array("L", [0] * own)
    for index, section in kept.items():
        begun = len(blocks.records)
        await in_thread(blocks.add, section.blocks(ledger.block_files))
        sections.extend([index] * (len(blocks.records) - begun))
        keep += range(begun, len(blocks.records))
    lossy = await recount(reader, blocks, keep)
    log.debug("changes.recounted", lossy=None if lossy is None else len(lossy))
    if lossy is None:
        return Verdict(render_all("there is an image without a key"))
    if not lossy:
        return Verdict(plan, kept)
    repair = make_plan(blocks, builder.datasets, lossy, (), "rows are gone", small_neighbours=False)
    if repair.ranges is None:
        return Verdict(repair)
    opened = {sections[index] for index in lossy if index >= own}
    keep_now = tuple(index for index in keep if index not in lossy and (index < own or sections[index] in opened))
    kept = {index: section for index, section in kept.items() if index not in opened}
    return Verdict(replace(plan, keep=keep_now), kept, repair.ranges, len(lossy) / len(blocks.records))


def conserved(assessment: Assessment, fresh: Iterable[BlockRecord], ledger: Ledger, totals: Totals) -> bool:
    """Whether the kept blocks provably lost no row.

    Kept blocks can only lose rows. So can the rows without a parent, if no changed row names a missing parent and
    no image came or went. Then equal sums prove that neither lost any.
    """
    if not assessment.trusted:
        return False
    if _ids(assessment.plan.replaced(assessment.blocks.records)) != _ids(fresh):
        return False
    sums = {"images": 0, "annotations": 0}
    records = assessment.blocks.records
    for record in chain((records[index] for index in assessment.plan.keep), fresh):
        counts = record.counts
        sums["images"] += counts.image_rows
        sums["annotations"] += counts.annotation_rows
    for section in assessment.kept.values():
        sums["images"] += section.sums.images + section.sums.hidden_images
        sums["annotations"] += section.sums.annotations - section.sums.added_annotations
    return all(count + ledger.unpublished.get(name, 0) == totals.live.get(name, 0) for name, count in sums.items())


def _ids(records: Iterable[BlockRecord]) -> int:
    return sum(record.ids for record in records) % 2**64


async def recount(reader: SnapshotReader, blocks: Blocks, keep: Collection[int]) -> set[int] | None:
    """Count the rows of every kept block in the snapshot; returns the indexes of the blocks that lost rows.

    None if an image has no key: such an image is in no range.
    """
    kept = bytearray(len(blocks.records))
    for index in keep:
        kept[index] = 1
    image_counts, annotation_counts = (array("Q", bytes(8 * len(kept))) for _ in range(2))
    keyless = False
    async for dataset, image, own in reader.annotation_counts():
        if image is None:
            keyless = True
            continue
        block = blocks.of(dataset, image)
        if block is not None and kept[block]:
            image_counts[block] += 1
            annotation_counts[block] += own
    if keyless:
        return None
    return {
        index
        for index, (images, annotations) in enumerate(zip(image_counts, annotation_counts, strict=True))
        if kept[index]
        and (counts := blocks.records[index].counts)
        and (images, annotations) != (counts.image_rows, counts.annotation_rows)
    }
