"""A stream whose next item is fetched while the one before is dealt with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

PATIENCE_S = 5.0
"""How long a fetch that nobody wants any more may take. A driver that is interrupted loses its connection."""

T = TypeVar("T")


@contextlib.asynccontextmanager
async def prefetched(items: AsyncGenerator[T, None]) -> AsyncIterator[AsyncIterator[T]]:
    """The same items; the first is fetched from now on, not only when it is asked for. Closes `items`."""
    fetching = _begin(items)

    async def following() -> AsyncIterator[T]:
        nonlocal fetching
        while True:
            # Not awaited itself: who is cancelled here would cancel it.
            await asyncio.wait({fetching})
            found = fetching.result()
            if not found:
                return
            fetching = _begin(items)
            yield found[0]

    try:
        yield following()
    finally:
        try:
            await asyncio.wait({fetching}, timeout=PATIENCE_S)
        finally:
            fetching.cancel()  # nothing, if it is done
        await asyncio.wait({fetching})
        if not fetching.cancelled():
            fetching.exception()  # whoever waited for it has it; what nobody waited for is of no interest
        await items.aclose()


def _begin(items: AsyncGenerator[T, None]) -> asyncio.Task[tuple[T, ...]]:
    return asyncio.create_task(_next(items), name="autoexport: fetch ahead")


async def _next(items: AsyncGenerator[T, None]) -> tuple[T, ...]:
    """The next item, or nothing at the end."""
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return ()
