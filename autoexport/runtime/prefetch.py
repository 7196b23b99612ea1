"""Fetches the next item of a stream while the caller processes the present one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from autoexport.runtime.tasks import ended

PATIENCE_S = 5.0
"""How long the last, unneeded fetch may take before it is cancelled. A driver that is cancelled in the middle of a
call loses its connection."""

T = TypeVar("T")


@contextlib.asynccontextmanager
async def prefetched(items: AsyncGenerator[T, None]) -> AsyncIterator[AsyncIterator[T]]:
    """The same items; fetching the first begins now, not when it is requested. Closes `items` on exit."""
    fetching = _begin(items)

    async def following() -> AsyncIterator[T]:
        nonlocal fetching
        while True:
            # Not awaited directly: a reader that is cancelled here would cancel the fetch as well.
            await asyncio.wait({fetching})
            fetched = fetching.result()
            if not fetched:
                return
            fetching = _begin(items)
            yield fetched[0]

    try:
        yield following()
    finally:
        try:
            await asyncio.wait({fetching}, timeout=PATIENCE_S)
        finally:
            fetching.cancel()  # does nothing if the fetch is done
            try:
                await ended(fetching)
            finally:
                await items.aclose()


def _begin(items: AsyncGenerator[T, None]) -> asyncio.Task[tuple[T, ...]]:
    return asyncio.create_task(_next(items), name="autoexport: fetch ahead")


async def _next(items: AsyncGenerator[T, None]) -> tuple[T, ...]:
    """The next item, or nothing at the end."""
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return ()
