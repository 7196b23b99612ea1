"""Cuts the rows of a Parquet file into row groups, by their content.

The cuts are a function of the rows alone, not of earlier exports. So an incremental export cuts as a full one
does, and a row that comes or goes moves the cuts near it only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import xxhash

SPACING_ROWS = 2_048
"""The mean number of rows from one light mark to the next."""

LEAST_ROWS, MOST_ROWS = 5_000, 8_000
"""A group has at least so many rows, unless it is the last one or its rows are large, and at most so many.

Readers are slower with smaller groups. An export encodes one group at a time, and 8,000 rows with polygons keep it
near 100 MB. Group numbers have 16 bits (`RowGroup.ordinal` in parquet.thrift): 32,767 groups are at least 160
million rows.
"""

LARGE_BYTES = 8 << 20
"""The mean number of bytes from one heavy mark to the next: a group of large rows has fewer of them."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Places among rows where a group may end, each as the number of rows before it, in order."""

    light: list[int]
    heavy: list[int]


def marks(keys: Iterable[str | None], rows: Sequence[int], sizes: Sequence[int] | None = None) -> Marks:
    """The marks among the rows of images.

    A mark is before the first row of an image. `rows` and `sizes` are the number of rows and of bytes of each
    image, and the more of them, the more likely is a mark. An image without rows has none.
    """
    found = Marks([], [])
    begin = 0
    for index, (key, count) in enumerate(zip(keys, rows, strict=True)):
        if count:
            # An image of a table without keys may have none.
            drawn = xxhash.xxh3_64_intdigest((key or "").encode("utf-8", "surrogateescape"))
            if drawn % SPACING_ROWS < count:
                found.light.append(begin)
            if sizes is not None and (drawn >> 32) % LARGE_BYTES < sizes[index]:
                found.heavy.append(begin)
        begin += count
    return found


def cuts(found: Marks, total: int) -> Iterator[int]:
    """The ends of the groups of `total` rows, from the marks among them.

    A group ends at a heavy mark, at a light mark if it has enough rows, and before it has too many.
    """
    begin = 0
    least_rows = dict.fromkeys(found.light, LEAST_ROWS) | dict.fromkeys(found.heavy, 1)
    for mark, least in sorted(least_rows.items()):
        while mark - begin > MOST_ROWS:
            begin += MOST_ROWS
            yield begin
        if mark - begin >= least:
            begin = mark
            yield begin
    while total - begin > MOST_ROWS:
        begin += MOST_ROWS
        yield begin
    if total > begin:
        yield total
