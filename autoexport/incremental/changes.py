"""Decides which blocks of the ledger changed, and proves that the others lost no row.

A source tells which rows may be new or different. Deleted rows leave no trace, but a block whose rows are
unchanged can only lose rows. If nothing else can have happened, the sums of the counts tell whether rows were lost
(`conserved`). Otherwise the rows of every kept block are counted in the snapshot (`recount`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from autoexport.incremental.ledger import Ledger
from autoexport.incremental.plan import Blocks, Plan, make_plan, render_all
from autoexport.incremental.position import load_position
from autoexport.model.blocks import BlockRecord, Changes, Everything, Range
from autoexport.model.catalog import Key
from autoexport.model.mapping import Mapping
from autoexport.model.tree import Totals
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import in_thread
from autoexport.sources.reader import SnapshotReader

_KEYS_AT_ONCE = 10_000

log = get_logger()


@dataclass(slots=True)
class Assessment:
    """The plan before rendering. `trusted`: equal sums of counts prove that no row was lost."""

    plan: Plan
    blocks: Blocks
    trusted: bool

    def dirty_share(self) -> float:
        """The share of the ledger's blocks that the plan does not keep."""
        return 1 - len(self.plan.keep) / max(1, len(self.blocks.records))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision after the dirty ranges were rendered and counted.

    `plan` is final: it is to render everything, or the earlier plan, perhaps with fewer kept blocks. `lost` are
    the ranges of the blocks that lost rows. They have to be rendered as well, and `lost_share` is their share of
    all blocks.
    """

    plan: Plan
    lost: tuple[Range, ...] = ()
    lost_share: float = 0.0


def assess_without_ledger(reason: str) -> Assessment:
    """The assessment without a usable ledger: render everything. `reason` says why."""
    return Assessment(render_all(reason), Blocks([]), False)


async def assess(
    reader: SnapshotReader, mapping: Mapping, builder: TreeBuilder, ledger: Ledger, state: Path
) -> Assessment:
    """Plan the export from the changes since the ledger was written. `state` is the private directory."""
    blocks = Blocks(ledger.blocks)
    since = load_position(state, ledger.generation)
    if since is None:
        return Assessment(render_all("the position of the last export is unknown"), blocks, False)
    changes = await reader.snapshot.changes(mapping, since)
    if isinstance(changes, Everything):
        return Assessment(render_all(changes.reason), blocks, False)
    return await _assess_changes(reader, builder, ledger, blocks, changes)


async def _assess_changes(
    reader: SnapshotReader, builder: TreeBuilder, ledger: Ledger, blocks: Blocks, changes: Changes
) -> Assessment:
    datasets = list(builder.places)
    if len({type(dataset) for dataset in (*datasets, *blocks.indexes)}) > 1:
        return Assessment(render_all("there are keys of several types"), blocks, False)
    whole = set(datasets) - set(ledger.datasets)
    if reader.tables.named_otherwise():
        # A dataset that gets a new name can adopt old images that refer to this name.
        whole |= {dataset for dataset in datasets if dataset not in blocks.indexes}
    dirty = {
        index
        for index, record in enumerate(blocks.records)
        if record.dataset in builder.places and builder.embedded(record.dataset) != record.parents
    }
    parented = 0
    keys = iter(changes.images)
    while batch := list(islice(keys, _KEYS_AT_ONCE)):
        for dataset, image in await reader.places(batch):
            parented += 1
            if blocks.incomparable(dataset, image):
                return Assessment(render_all("there are keys of several types"), blocks, False)
            index = blocks.of(dataset, image)
            if index is None:
                whole.add(dataset)
            else:
                dirty.add(index)
    trusted = (
        not changes.orphans_seen
        and parented == len(changes.images)
        and set(datasets) == set(ledger.datasets)
        and reader.tables.is_primary_key("images")
        and reader.tables.links_by_primary_key()
    )
    reason = f"{len(changes.images)} images may have changed"
    return Assessment(make_plan(blocks, builder.places, dirty, whole, reason), blocks, trusted)


async def judge(
    reader: SnapshotReader,
    builder: TreeBuilder,
    assessment: Assessment,
    fresh: Sequence[BlockRecord],
    ledger: Ledger,
    totals: Totals,
) -> Verdict:
    """Decide which kept blocks are still right. `fresh` are the rendered blocks of the dirty ranges.

    `totals` are the row counts of the snapshot.
    """
    plan = assessment.plan
    if await in_thread(conserved, assessment, fresh, ledger, totals):
        return Verdict(plan)
    lossy = await recount(reader, assessment.blocks, plan.keep)
    log.debug("changes.recounted", lossy=None if lossy is None else len(lossy))
    if lossy is None:
        return Verdict(render_all("there is an image without a key"))
    if not lossy:
        return Verdict(plan)
    repair = make_plan(assessment.blocks, builder.places, lossy, (), "rows are gone", small_neighbours=False)
    if repair.ranges is None:
        return Verdict(repair)
    keep = tuple(index for index in plan.keep if index not in lossy)
    return Verdict(replace(plan, keep=keep), repair.ranges, len(lossy) / len(assessment.blocks.records))


def conserved(assessment: Assessment, fresh: Sequence[BlockRecord], ledger: Ledger, totals: Totals) -> bool:
    """Whether the kept blocks provably lost no row.

    Kept blocks can only lose rows. So can the rows without a parent, if no changed row names a missing parent and
    no image came or went. Then equal sums prove that neither lost any.
    """
    if not assessment.trusted:
        return False
    if _ids(assessment.plan.replaced(assessment.blocks.records)) != _ids(fresh):
        return False
    published = [record.counts for record in (*assessment.plan.kept(assessment.blocks.records), *fresh)]
    sums = {
        "images": sum(counts.image_rows for counts in published),
        "annotations": sum(counts.annotation_rows for counts in published),
    }
    return all(count + ledger.unpublished.get(name, 0) == totals.live.get(name, 0) for name, count in sums.items())


def _ids(records: Sequence[BlockRecord]) -> int:
    return sum(record.ids for record in records) % 2**64


async def recount(reader: SnapshotReader, blocks: Blocks, keep: Collection[int]) -> set[int] | None:
    """Count the rows of every kept block in the snapshot; returns the indexes of the blocks that lost rows.

    None if an image has no key: such an image is in no range.
    """
    counted: dict[int, list[int]] = {index: [0, 0] for index in keep}
    keyless = False
    async for dataset, image, own in reader.annotation_counts():
        if image is None:
            keyless = True
            continue
        index = blocks.of(dataset, image)
        if index in counted:
            counted[index][0] += 1
            counted[index][1] += own
    if keyless:
        return None
    return {
        index
        for index, (images, annotations) in counted.items()
        if (counts := blocks.records[index].counts)
        and (images, annotations) != (counts.image_rows, counts.annotation_rows)
    }


def can_be_kept(records: Sequence[BlockRecord], datasets: Collection[Key]) -> bool:
    """Whether a later export can keep the blocks.

    `obstacle` says which keys can be ordered. Every block must end before the next one of its dataset begins.
    """
    ends: dict[Key, Key] = {}
    for record in records:
        if record.first is None or type(record.first) is not type(ends.get(record.dataset, record.first)):
            return False
        if record.dataset in ends and not ends[record.dataset] < record.first:  # type: ignore[operator]
            return False
        ends[record.dataset] = record.last
    images = [key for record in records for key in (record.first, record.last)]
    dataset_types = {type(record.dataset) for record in records} | {type(key) for key in datasets}
    if obstacle({type(key) for key in images}) or obstacle(dataset_types):
        return False
    # The ledger cannot hold keys that are not valid UTF-8.
    return all(_is_valid(str(key)) for key in [*images, *datasets])


def obstacle(key_types: Collection[type]) -> str:
    """The reason why no block with keys of these types can be kept; empty if blocks can be.

    Python must order the keys as the database does: all of a level are whole numbers, or text, or bytes.
    """
    if len(key_types) > 1:
        return "the keys are of several types"
    return "" if set(key_types) <= {int, str, bytes} else "the keys are no whole numbers, texts or bytes"


def _is_valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
