"""What changed since the ledger: the dirty blocks, or everything.

A source tells which rows may be new or different. Rows that are gone leave no trace, but a block
whose rows are unchanged can only lose some; so, where nothing but that can have happened, the sums
of the counts tell whether it did (`conserved`), and where more may have happened, every block is
counted anew (`recount`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from autoexport.incremental.ledger import Ledger
from autoexport.incremental.plan import Blocks, Plan, make_plan, render_all
from autoexport.incremental.position import load_position
from autoexport.model.blocks import BlockRecord, Changes, Everything
from autoexport.model.catalog import Key
from autoexport.model.mapping import Mapping
from autoexport.model.tree import Totals
from autoexport.rendering.tree import TreeBuilder
from autoexport.sources.reader import SnapshotReader

_KEYS_AT_ONCE = 10_000


@dataclass(slots=True)
class Assessment:
    """What is known before anything is rendered."""

    plan: Plan
    blocks: Blocks
    trusted: bool
    """Whether sums may prove that nothing is gone."""


async def what_changed(
    reader: SnapshotReader, mapping: Mapping, builder: TreeBuilder, ledger: Ledger, state: Path
) -> Assessment:
    """Compare the snapshot with the ledger and plan the export."""
    blocks = Blocks(ledger.blocks)
    since = load_position(state, ledger.generation)
    if since is None:
        return Assessment(render_all("the position of the last export is not known"), blocks, False)
    changes = await reader.snapshot.changes(mapping, since)
    if isinstance(changes, Everything):
        return Assessment(render_all(changes.reason), blocks, False)
    return await _found(reader, builder, ledger, blocks, changes)


async def _found(
    reader: SnapshotReader, builder: TreeBuilder, ledger: Ledger, blocks: Blocks, changes: Changes
) -> Assessment:
    datasets = list(builder.places)
    if len({type(dataset) for dataset in (*datasets, *blocks.numbers)}) > 1:
        return Assessment(render_all("there are keys of several types"), blocks, False)
    whole = set(datasets) - set(ledger.datasets)
    if reader.tables.named_otherwise():
        # A dataset without blocks can come by images that were there before it had that name.
        whole |= {dataset for dataset in datasets if dataset not in blocks.numbers}
    dirty = {
        number
        for number, record in enumerate(blocks.records)
        if record.dataset in builder.places and builder.embedded(record.dataset) != record.parents
    }
    placed = 0
    keys = iter(changes.images)
    while some := list(islice(keys, _KEYS_AT_ONCE)):
        for dataset, image in await reader.places(some):
            placed += 1
            if blocks.incomparable(dataset, image):
                return Assessment(render_all("there are keys of several types"), blocks, False)
            number = blocks.of(dataset, image)
            if number is None:
                whole.add(dataset)
            else:
                dirty.add(number)
    trusted = (
        not changes.orphans_seen
        and placed == len(changes.images)
        and set(datasets) == set(ledger.datasets)
        and reader.tables.is_primary_key("images")
        and reader.tables.links_by_primary_key()
    )
    reason = f"{len(changes.images)} images may have changed"
    return Assessment(make_plan(blocks, builder.places, dirty, whole, reason), blocks, trusted)


def conserved(
    kept: Sequence[BlockRecord], fresh: Sequence[BlockRecord], ledger: Ledger, totals: Totals, found: Assessment
) -> bool:
    """Whether the kept blocks provably lost nothing.

    Kept blocks can only lose rows, and so can what is unpublished, as long as nothing that changed
    names a missing parent and no image came or went. Then equal sums mean that no part lost any.
    """
    if not found.trusted:
        return False
    if _ids(found.plan.replaced(found.blocks.records)) != _ids(fresh):
        return False
    published = [record.counts for record in (*kept, *fresh)]
    sums = {
        "images": sum(counts.images for counts in published),
        "annotations": sum(counts.annotations for counts in published),
    }
    return all(
        number + ledger.unpublished.get(name, 0) == totals.live.get(name, 0) for name, number in sums.items()
    )


def _ids(records: Sequence[BlockRecord]) -> int:
    return sum(record.ids for record in records) % 2**64


async def recount(reader: SnapshotReader, blocks: Blocks, keep: Collection[int]) -> set[int] | None:
    """Count the rows of every kept block in the snapshot; the numbers of those that lost some. None if there is
    an image without a key, which is in no range."""
    counted: dict[int, list[int]] = {number: [0, 0] for number in keep}
    keyless = False
    async for dataset, image, own in reader.annotation_counts():
        if image is None:
            keyless = True
            continue
        number = blocks.of(dataset, image)
        if number in counted:
            counted[number][0] += 1
            counted[number][1] += own
    if keyless:
        return None
    return {
        number
        for number, (images, annotations) in counted.items()
        if (counts := blocks.records[number].counts)
        and (images, annotations) != (counts.images, counts.annotations)
    }


def can_be_kept(records: Sequence[BlockRecord], datasets: Collection[Key]) -> bool:
    """Whether the keys compare in Python as they do in the database (all numbers, or all text) and
    every block ends before the next of its dataset begins."""
    ends: dict[Key, Key] = {}
    for record in records:
        if record.first is None or type(record.first) is not type(ends.get(record.dataset, record.first)):
            return False
        if record.dataset in ends and not ends[record.dataset] < record.first:  # type: ignore[operator]
            return False
        ends[record.dataset] = record.last
    kinds = [{type(record.dataset) for record in records} | {type(key) for key in datasets}]
    ends_of_blocks = [key for record in records for key in (record.first, record.last)]
    kinds.append({type(key) for key in ends_of_blocks})
    if not all(kind <= {int} or kind <= {str} for kind in kinds):
        return False
    # Keys that are not valid UTF-8 cannot be written into the ledger.
    return all(_is_valid(str(key)) for key in [*ends_of_blocks, *datasets])


def _is_valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
