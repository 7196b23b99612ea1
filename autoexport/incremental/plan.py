"""Pure: the ledger's blocks and what changed → which blocks are kept, and which ranges of images are rendered."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from autoexport.model.blocks import BlockRecord, Range
from autoexport.model.catalog import Key

MOST_DIRTY = 0.5
"""When more than this share of the blocks is dirty, all are rendered: one pass costs less than many ranges."""

SMALL_IMAGES = 16
"""Fewer images than this make a small block. It is rendered together with a neighbour if either changed, so
that blocks do not crumble."""

SMALL_BYTES = 100_000
"""Nor is a block small that has this many bytes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks to keep, by number in the ledger, and ranges to render, in the order of the tree's keys.

    `ranges` is None when everything is rendered. `reason` says why the plan is what it is.
    """

    keep: tuple[int, ...]
    ranges: tuple[Range, ...] | None
    reason: str

    @property
    def mode(self) -> str:
        """`full` or `incremental`."""
        return "full" if self.ranges is None else "incremental"

    def replaced(self, records: Sequence[BlockRecord]) -> list[BlockRecord]:
        """Those of the ledger's blocks that are not kept."""
        keep = set(self.keep)
        return [record for number, record in enumerate(records) if number not in keep]


class Blocks:
    """The ledger's blocks as a place to look things up: which block an image belongs to."""

    def __init__(self, records: Sequence[BlockRecord]) -> None:
        self.records = records
        self.numbers: dict[Key, list[int]] = {}
        for number, record in enumerate(records):
            self.numbers.setdefault(record.dataset, []).append(number)
        self._lasts = {
            dataset: [records[number].last for number in numbers] for dataset, numbers in self.numbers.items()
        }

    def incomparable(self, dataset: object, image: object) -> bool:
        """Whether keys like these cannot be compared with those of the blocks."""
        known = self.records[0] if self.records else None
        if known is None:
            return type(dataset) not in (int, str) or type(image) not in (int, str)
        return type(dataset) is not type(known.dataset) or type(image) is not type(known.first)

    def of(self, dataset: Key, image: Key) -> int | None:
        """The number of the block in whose range an image lies; None where the dataset has no block.
        What comes after the last block belongs to the last block."""
        numbers = self.numbers.get(dataset)
        if numbers is None:
            return None
        place = bisect_left(self._lasts[dataset], image)
        return numbers[min(place, len(numbers) - 1)]


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
) -> Plan:
    """Keep the blocks of living datasets that are not dirty; render the others' ranges, and the `whole`
    datasets, which have no blocks to go by."""
    whole = set(whole)
    dropped = {
        number
        for dataset, numbers in blocks.numbers.items()
        if dataset not in datasets or dataset in whole
        for number in numbers
    }
    dirty = dirty - dropped
    if small_neighbours:
        dirty = _with_small_neighbours(blocks, dirty)
    if len(dirty | dropped) > MOST_DIRTY * len(blocks.records):
        return render_all(f"{len(dirty | dropped)} of {len(blocks.records)} blocks changed")
    keep = tuple(number for number in range(len(blocks.records)) if number not in dirty and number not in dropped)
    ranges = [Range(dataset, None, None) for dataset in whole if dataset in datasets]
    for dataset, numbers in blocks.numbers.items():
        if dataset in datasets and dataset not in whole:
            ranges += _ranges(blocks, dataset, numbers, dirty)
    ranges.sort(key=lambda item: (item.dataset, item.after is not None, item.after))
    return Plan(keep, tuple(ranges), reason)


def _with_small_neighbours(blocks: Blocks, dirty: set[int]) -> set[int]:
    """Also the small neighbours of a dirty block: an image that is inserted into a full one leaves a new one
    behind, each time. And some neighbour of a dirty block that is small itself."""
    grown = set(dirty)
    for numbers in blocks.numbers.values():
        for place, number in enumerate(numbers):
            if number not in dirty:
                continue
            beside = numbers[max(place - 1, 0) : place] + numbers[place + 1 : place + 2]
            small = [other for other in beside if _is_small(blocks.records[other])]
            grown.update(small or (beside[:1] if _is_small(blocks.records[number]) else ()))
    return grown


def _is_small(record: BlockRecord) -> bool:
    """In images and in bytes: a few heavy images are no small block."""
    return record.counts.images < SMALL_IMAGES and sum(part.length for part in record.parts) < SMALL_BYTES


def _ranges(blocks: Blocks, dataset: Key, numbers: Sequence[int], dirty: set[int]) -> list[Range]:
    """The dirty blocks of a dataset as ranges that leave no gap for a new image to fall into."""
    ranges: list[Range] = []
    after: Key | None = None
    open_since: list[Key | None] = []
    for place, number in enumerate(numbers):
        last = blocks.records[number].last
        if number in dirty:
            if not open_since:
                open_since.append(after)
            ends = place + 1 == len(numbers)
            if ends or numbers[place + 1] not in dirty:
                ranges.append(Range(dataset, open_since.pop(), None if ends else last))
        after = last
    return ranges
