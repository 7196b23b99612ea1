"""Decides what changed since the ledger was written: the dirty blocks, or everything.

A source tells which rows may be new or different. Deleted rows leave no trace, but a block whose rows are
unchanged can only lose rows. Where nothing else can have happened, the sums of the counts tell whether rows were
lost (`conserved`). Where more may have happened, the rows of every kept block are counted in the snapshot
(`recount`).
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from autoexport.incremental.ledger import Ledger
from autoexport.incremental.plan import Blocks, Plan, make_plan, render_all
from autoexport.incremental.position import load_position
from autoexport.model.blocks import BlockRecord, BlockRecords, Changes, Everything, Range, SectionRecord
from autoexport.model.catalog import Key
from autoexport.model.mapping import Mapping
from autoexport.model.tree import Totals
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import in_thread
from autoexport.sources.reader import SnapshotReader

_KEYS_AT_ONCE = 10_000
_DATASETS_AT_ONCE = 256

log = get_logger()


@dataclass(slots=True)
class Assessment:
    """The plan before anything is rendered. `trusted`: equal sums of counts prove that no row was lost.

    `kept` are the sections, by index, of which nothing changed; `blocks` has those of the other sections of the
    ledger.
    """

    plan: Plan
    blocks: Blocks
    trusted: bool
    kept: dict[int, SectionRecord] = field(default_factory=dict)

    def kept_blocks(self) -> int:
        """The number of blocks in the kept sections."""
        return sum(section.sums.blocks for section in self.kept.values())

    def dirty_share(self) -> float:
        """The share of the ledger's blocks that the plan does not keep."""
        kept = self.kept_blocks()
        return 1 - (len(self.plan.keep) + kept) / max(1, len(self.blocks.records) + kept)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds after the dirty ranges were rendered and counted.

    `plan` is the plan that stands: everything, or the same one with fewer kept blocks. `kept` are the sections
    that are kept besides. `lost` are the ranges of the blocks that lost rows: they are rendered as well, and are
    about `lost_share` of all blocks.
    """

    plan: Plan
    kept: dict[int, SectionRecord] = field(default_factory=dict)
    lost: tuple[Range, ...] = ()
    lost_share: float = 0.0


def assess_nothing(reason: str) -> Assessment:
    """The assessment where no ledger can be built upon: everything is rendered, for this reason."""
    return Assessment(render_all(reason), Blocks(), False)


async def what_changed(
    reader: SnapshotReader, mapping: Mapping, builder: TreeBuilder, ledger: Ledger, state: Path, sectioned: bool
) -> Assessment:
    """Compare the snapshot with the ledger and plan the export. `state` is the private directory.

    `sectioned`: every format renders sections, so that those that did not change can be kept.
    """
    since = load_position(state, ledger.generation)
    if since is None:
        return assess_nothing("the position of the last export is not known")
    changes = await reader.snapshot.changes(mapping, since)
    if isinstance(changes, Everything):
        return assess_nothing(changes.reason)
    found = await in_thread(_Comparison, builder, ledger, sectioned)
    return await _found(reader, builder, ledger, changes, found)


class _Comparison:
    """Compares the sections of the ledger with those of the snapshot.

    `kept` are those of which nothing changed so far. The blocks of all others are in `blocks`.
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
        """Keep the section of a dataset no longer as a whole."""
        self.open_section(self._outline.section_of(dataset))

    def open_section(self, index: int) -> None:
        """Keep a section no longer as a whole."""
        record = self.kept.pop(index, None)
        if record is not None:
            self.datasets += self._outline.keys_of(index)
            self._add(record)

    def _add(self, record: SectionRecord) -> None:
        self.published.update(record.datasets())
        self.blocks.add(record.blocks(self._ledger.block_files))


async def _found(
    reader: SnapshotReader, builder: TreeBuilder, ledger: Ledger, changes: Changes, found: _Comparison
) -> Assessment:
    kinds = {*_kinds(builder.datasets), ledger.kinds[0]} - {""}
    if len(kinds) > 1:
        return assess_nothing("there are keys of several types")
    blocks = found.blocks
    if reader.tables.named_otherwise():
        # A dataset without blocks can come by images that were there before it had that name.
        for index in [index for index, record in found.kept.items() if record.empty]:
            found.open_section(index)
    dirty: set[int] = set()
    whole: set[Key] = set()
    placed = 0
    keys = iter(changes.images)
    while some := list(islice(keys, _KEYS_AT_ONCE)):
        for dataset, image in await reader.places(some):
            placed += 1
            if incomparable(ledger.kinds, dataset, image):
                return assess_nothing("there are keys of several types")
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
        and placed == len(changes.images)
        and set(found.datasets) == found.published
        and reader.tables.is_primary_key("images")
        and reader.tables.links_by_primary_key()
    )
    reason = f"{len(changes.images)} images may have changed"
    assessment = Assessment(render_all(reason), blocks, trusted, found.kept)
    others = assessment.kept_blocks()
    assessment.plan = make_plan(blocks, builder.datasets, dirty, whole, reason, others=others)
    return assessment


def _other_parents(builder: TreeBuilder, blocks: Blocks) -> set[int]:
    """The blocks that repeat values from above that changed."""
    dirty: set[int] = set()
    datasets = iter([dataset for dataset in blocks.indexes if dataset in builder.datasets])
    while some := list(islice(datasets, _DATASETS_AT_ONCE)):
        for dataset, parents in zip(some, builder.owners(some)[1], strict=True):
            dirty.update(index for index in blocks.indexes[dataset] if blocks.records[index].parents != parents)
    return dirty


def _kinds(keys: Iterable[Key]) -> set[str]:
    return {kind.__name__ for kind in set(map(type, keys))}


def _kind(key: Key) -> str:
    return type(key).__name__


def incomparable(kinds: tuple[str, str], dataset: Any, image: Any) -> bool:
    """Whether these keys cannot be compared with those of the ledger, whose types are `kinds`."""
    return any(
        _kind(key) not in ((known,) if known else ("int", "str"))
        for key, known in zip((dataset, image), kinds, strict=True)
    )


async def judge(
    reader: SnapshotReader,
    builder: TreeBuilder,
    assessment: Assessment,
    fresh: BlockRecords,
    ledger: Ledger,
    totals: Totals,
) -> Verdict:
    """Decide which kept blocks stand, now that the blocks of the dirty ranges are rendered (`fresh`)."""
    plan, kept = assessment.plan, assessment.kept
    if await in_thread(conserved, assessment, fresh, ledger, totals):
        return Verdict(plan, kept)
    # Every block has to be looked at.
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
    again = make_plan(blocks, builder.datasets, lossy, (), "rows are gone", small_neighbours=False)
    if again.ranges is None:
        return Verdict(again)
    opened = {sections[index] for index in lossy if index >= own}
    standing = tuple(index for index in keep if index not in lossy and (index < own or sections[index] in opened))
    kept = {index: section for index, section in kept.items() if index not in opened}
    return Verdict(replace(plan, keep=standing), kept, again.ranges, len(lossy) / len(blocks.records))


def conserved(assessment: Assessment, fresh: Iterable[BlockRecord], ledger: Ledger, totals: Totals) -> bool:
    """Whether the kept blocks provably lost no row.

    Kept blocks can only lose rows, and so can the rows without a parent, as long as no changed row names a missing
    parent and no image came or went. Then equal sums mean that no part lost any.
    """
    if not assessment.trusted:
        return False
    if _ids(assessment.plan.replaced(assessment.blocks.records)) != _ids(fresh):
        return False
    sums = {"images": 0, "annotations": 0}
    records = assessment.blocks.records
    for record in chain((records[index] for index in assessment.plan.keep), fresh):
        counts = record.counts
        sums["images"] += counts.images
        sums["annotations"] += counts.annotations
    for section in assessment.kept.values():
        sums["images"] += section.sums.images
        sums["annotations"] += section.sums.annotations
    return all(count + ledger.unpublished.get(name, 0) == totals.live.get(name, 0) for name, count in sums.items())


def _ids(records: Iterable[BlockRecord]) -> int:
    return sum(record.ids for record in records) % 2**64


async def recount(reader: SnapshotReader, blocks: Blocks, keep: Collection[int]) -> set[int] | None:
    """Count the rows of every kept block in the snapshot; returns the indexes of the blocks that lost rows.

    None if there is an image without a key, which is in no range.
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
        and (images, annotations) != (counts.images, counts.annotations)
    }


def kinds_of(
    records: Iterable[BlockRecord], datasets: Collection[Key], kept: tuple[str, str]
) -> tuple[str, str] | None:
    """The types of the keys of datasets and images, if a later export can keep these blocks; else None.

    The keys have to compare in Python as they do in the database (all numbers, or all text), and every block has
    to end before the next one of its dataset begins. The blocks of a dataset follow one another. `kept` are the
    types in the sections that are kept.
    """
    of_datasets, of_images = ({kind} - {""} for kind in kept)
    of_datasets |= _kinds(datasets)
    dataset: Any = None
    end: Any = None
    texts: list[str] = []
    for record in records:
        first: Any = record.first
        last: Any = record.last
        of_images |= {_kind(first), _kind(last)}
        if record.dataset == dataset and end is not None and (type(first) is not type(end) or not end < first):
            return None
        if isinstance(first, str):
            texts += (first, str(last))
        of_datasets.add(_kind(record.dataset))
        dataset, end = record.dataset, last
    if not all(kinds <= {"int"} or kinds <= {"str"} for kinds in (of_datasets, of_images)):
        return None
    if of_datasets == {"str"}:
        texts += map(str, datasets)
    # Keys that are not valid UTF-8 cannot be written into the ledger.
    if not _is_valid("".join(texts)):
        return None
    return min(of_datasets, default=""), min(of_images, default="")


def can_be_kept(records: Iterable[BlockRecord], datasets: Collection[Key]) -> bool:
    """Whether a later export can keep these blocks."""
    return kinds_of(records, datasets, ("", "")) is not None


def _is_valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
