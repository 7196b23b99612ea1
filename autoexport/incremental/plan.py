"""Plans an export: which blocks of the ledger are kept, and which ranges of images are rendered."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from autoexport.model.blocks import BlockRecord, Range
from autoexport.model.catalog import Key
from autoexport.model.sections import BlockRecords

MOST_DIRTY = 0.5
"""If more than this share of the blocks is dirty, all are rendered: one pass costs less than many ranges."""

SMALL_IMAGES = 16
"""A block with fewer images is small. If it or its neighbour changed, both are rendered together. Otherwise blocks
would get smaller and smaller."""

SMALL_BYTES = 100_000
"""A block with at least this many bytes is not small."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks to keep, by their index in the ledger, and ranges to render, in the order of the tree's keys.

    `ranges` is None when everything is rendered. `reason` explains the plan. `changed_images` is the number of
    images that may be new or different; None if it is unknown.
    """

    keep: tuple[int, ...]
    ranges: tuple[Range, ...] | None
    reason: str
    changed_images: int | None = None

    @property
    def mode(self) -> str:
        """`full` or `incremental`."""
        return "full" if self.ranges is None else "incremental"

    def replaced(self, records: Sequence[BlockRecord]) -> Iterator[BlockRecord]:
        """The blocks of the ledger that are not kept."""
        keep = set(self.keep)
        return (records[index] for index in range(len(records)) if index not in keep)


class Blocks:
    """Blocks of the ledger, with a lookup of the block that an image belongs to.

    The blocks of a dataset follow one another. Sections of the ledger are added when they are needed.
    """

    def __init__(self, records: Iterable[BlockRecord] = ()) -> None:
        self.records = BlockRecords()
        self.indexes: dict[Key, range] = {}
        self._lasts: dict[Key, list[Key]] = {}
        self.add(records)

    def add(self, records: Iterable[BlockRecord]) -> None:
        """Add the blocks of whole datasets."""
        for record in records:
            index = len(self.records)
            self.records.append(record)
            known = self.indexes.get(record.dataset)
            self.indexes[record.dataset] = range(known.start if known is not None else index, index + 1)

    def of(self, dataset: Key, image: Key) -> int | None:
        """The index of the block whose range holds an image; None if the dataset has no block.

        An image after the last block belongs to the last block.
        """
        indexes = self.indexes.get(dataset)
        if indexes is None:
            return None
        if len(indexes) == 1:
            return indexes[0]
        if dataset not in self._lasts:
            self._lasts[dataset] = [self.records[index].last for index in indexes]
        offset = bisect_left(self._lasts[dataset], image)
        return indexes[min(offset, len(indexes) - 1)]


def render_all(reason: str) -> Plan:
    """The plan to render everything."""
    return Plan((), None, reason)


def make_plan(
    blocks: Blocks,
    datasets: Collection[Key],
    dirty: set[int],
    whole: Iterable[Key],
    reason: str,
    *,
    small_neighbours: bool = True,
    others: int = 0,
) -> Plan:
    """Keep the clean blocks of the datasets that still exist, and render the ranges of the dirty ones.

    The datasets in `whole` are rendered from their first image to the last, because no block of them can be kept.
    `others` is the number of blocks that are kept besides.
    """
    whole = set(whole)
    dropped = {
        index
        for dataset, indexes in blocks.indexes.items()
        if dataset not in datasets or dataset in whole
        for index in indexes
    }
    dirty = dirty - dropped
    if small_neighbours:
        dirty = _with_small_neighbours(blocks, dirty)
    total = len(blocks.records) + others
    if len(dirty | dropped) > MOST_DIRTY * total:
        return render_all(f"{len(dirty | dropped)} of {total} blocks changed")
    keep = tuple(index for index in range(len(blocks.records)) if index not in dirty and index not in dropped)
    ranges = [Range(dataset, None, None) for dataset in whole if dataset in datasets]
    for dataset in {blocks.records[index].dataset for index in dirty}:
        ranges += _ranges(blocks, dataset, blocks.indexes[dataset], dirty)
    ranges.sort(key=lambda item: (item.dataset, item.after is not None, item.after))
    return Plan(keep, tuple(ranges), reason)


def _with_small_neighbours(blocks: Blocks, dirty: set[int]) -> set[int]:
    """The dirty blocks with their small neighbours. A small dirty block without any gets some neighbour.

    Otherwise each image that is inserted into a full block would leave a new small block behind.
    """
    grown = set(dirty)
    for index in dirty:
        indexes = blocks.indexes[blocks.records[index].dataset]
        neighbours = [other for other in (index - 1, index + 1) if other in indexes]
        small = [other for other in neighbours if _is_small(blocks.records[other])]
        grown.update(small or (neighbours[:1] if neighbours and _is_small(blocks.records[index]) else ()))
    return grown


def _is_small(record: BlockRecord) -> bool:
    """Whether a block has few images and few bytes. A block of a few large images is not small."""
    return record.counts.images < SMALL_IMAGES and sum(part.length for part in record.parts) < SMALL_BYTES


def _ranges(blocks: Blocks, dataset: Key, indexes: range, dirty: set[int]) -> list[Range]:
    """The dirty blocks of a dataset as ranges that leave no gap for a new image to fall into."""
    ranges: list[Range] = []
    after: Key | None = None
    for is_dirty, run in groupby(indexes, dirty.__contains__):
        last_index = list(run)[-1]
        last = blocks.records[last_index].last
        if is_dirty:
            ranges.append(Range(dataset, after, None if last_index == indexes[-1] else last))
        after = last
    return ranges
