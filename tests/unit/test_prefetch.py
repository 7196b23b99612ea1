"""The next item is fetched while the one before is dealt with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from autoexport.runtime import prefetch
from autoexport.runtime.prefetch import prefetched


class Items:
    """Numbers that are delivered when they may be."""

    def __init__(self, count: int, failing_at: int | None = None) -> None:
        self.begun: list[int] = []
        self.may_end = asyncio.Event()
        self.closed = self.interrupted = False
        self._count, self._failing_at = count, failing_at

    async def stream(self) -> AsyncGenerator[int, None]:
        """The numbers."""
        try:
            for number in range(self._count):
                self.begun.append(number)
                await self.may_end.wait()
                if number == self._failing_at:
                    raise ValueError("broken")
                yield number
        except asyncio.CancelledError:
            self.interrupted = True
            raise
        finally:
            self.closed = True


async def begun(items: Items, count: int) -> None:
    """Wait until so many fetches have begun."""
    while len(items.begun) < count:
        await asyncio.sleep(0)


async def test_all_items_in_order() -> None:
    """None is lost at the end, and the stream is closed."""
    items = Items(5)
    items.may_end.set()
    async with prefetched(items.stream()) as stream:
        assert [number async for number in stream] == [0, 1, 2, 3, 4]
    assert items.closed


async def test_the_first_is_fetched_before_it_is_asked_for() -> None:
    """And the second while the first is dealt with, but not a third."""
    items = Items(5)
    async with prefetched(items.stream()) as stream:
        await begun(items, 1)
        items.may_end.set()
        assert await anext(stream) == 0
        await begun(items, 2)
        assert items.begun == [0, 1]
    assert items.closed


async def test_an_error_of_the_stream() -> None:
    """It arrives where the item would have."""
    items = Items(5, failing_at=1)
    items.may_end.set()
    async with prefetched(items.stream()) as stream:
        assert await anext(stream) == 0
        with pytest.raises(ValueError, match="broken"):
            await anext(stream)
    assert items.closed


async def test_a_cancelled_reader_lets_the_fetch_end() -> None:
    """A driver is not interrupted in the middle of a call."""
    items = Items(5)
    reading = asyncio.Event()

    async def read() -> None:
        async with prefetched(items.stream()) as stream:
            reading.set()
            await anext(stream)

    task = asyncio.create_task(read())
    await reading.wait()
    await begun(items, 1)
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    items.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (items.closed, items.interrupted) == (True, False)


async def test_a_fetch_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is interrupted after a while."""
    monkeypatch.setattr(prefetch, "PATIENCE_S", 0.01)
    items = Items(5)

    async def give_up() -> None:
        async with prefetched(items.stream()):
            await begun(items, 1)
            raise LookupError

    with pytest.raises(LookupError):
        await give_up()
    assert (items.closed, items.interrupted) == (True, True)
