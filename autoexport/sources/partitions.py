"""What every source does alike: run a statement on an async session and hand on its rows in partitions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from autoexport.model.blocks import Everything
from autoexport.model.catalog import Scalar

_FEWEST_ROWS = 16
_MOST_ROWS = 512
"""In a partition. Four times as many took 5 MB more and no less time, measured at 1.1 million rows."""

MOST_CHANGED_IMAGES = 200_000
"""Of more, the keys would take more than 25 MB: then everything is rendered, which takes no memory."""

_PARTITION_CHARACTERS = 500_000
"""What the values of a heavy column may come to in one partition, about."""


async def partitions(
    session: AsyncSession, statement: Select[Any], wide_column: int | None
) -> AsyncGenerator[Sequence[Sequence[Any]], None]:
    """The rows of a statement, streamed: many at a time where they are small, few where they are large."""
    rows = _MOST_ROWS if wide_column is None else 256
    options = {"stream_results": True, "max_row_buffer": rows}
    result = await session.stream(statement, execution_options=options)
    try:
        while part := await result.fetchmany(rows):
            if wide_column is not None:
                rows = next_size(len(part), lengths([row[wide_column] for row in part]), _MOST_ROWS)
            yield part
    finally:
        await result.close()


def too_many_changed() -> Everything:
    """The answer where the keys of the changed images would take too much memory."""
    return Everything(f"more than {MOST_CHANGED_IMAGES:,} images may have changed")


def next_size(rows: int, length: int, most: int) -> int:
    """As many rows as would have been right for the partition before, at most twice as many as it had."""
    fitting = _PARTITION_CHARACTERS * rows // (length + 1)
    return max(_FEWEST_ROWS, min(fitting, 2 * rows, most))


def lengths(column: Sequence[Scalar]) -> int:
    """How long the values of a column are, together."""
    with suppress(TypeError):
        return sum(map(len, filter(None, column)))  # type: ignore[arg-type]
    return sum(len(value) for value in column if isinstance(value, str | bytes))
