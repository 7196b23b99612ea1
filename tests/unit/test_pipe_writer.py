"""Messages through a real pipe: whole, in order, and never waiting for a reader that is gone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from autoexport.runtime.pipe_writer import CAPACITY_BYTES, PipeWriter, open_pipe
from tests.daemon import LIMIT_S

LARGE = os.urandom(3 * CAPACITY_BYTES + 1)


@pytest.fixture
def pipe() -> Iterator[tuple[int, PipeWriter]]:
    """The read end, closed after the test, and the writer."""
    read_end, writer = open_pipe()
    yield read_end, writer
    os.close(read_end)


def read_all(descriptor: int) -> bytes:
    """All bytes until the write end is closed."""
    read = b""
    while part := os.read(descriptor, 1 << 16):
        read += part
    return read


@pytest.fixture
async def running() -> asyncio.Task[None]:
    """A reader's task that has not ended."""
    return asyncio.create_task(asyncio.sleep(LIMIT_S))


async def test_messages_larger_than_the_pipe(pipe: tuple[int, PipeWriter], running: asyncio.Task[None]) -> None:
    """Each arrives whole and in order."""
    read_end, writer = pipe
    reading = asyncio.create_task(asyncio.to_thread(read_all, read_end))
    async with asyncio.timeout(LIMIT_S):
        for message in (b"first", LARGE, b"last"):
            await writer.sent(running)
            writer.send(message)
        await writer.sent(running)
        await writer.close()
        assert await reading == b"first" + LARGE + b"last"


async def test_a_full_pipe_does_not_block(pipe: tuple[int, PipeWriter], running: asyncio.Task[None]) -> None:
    """`send` returns though nothing is read; `sent` waits until the reader's task ends."""
    _, writer = pipe
    writer.send(LARGE)
    waiting = asyncio.create_task(writer.sent(running))
    done, _ = await asyncio.wait({waiting}, timeout=0.1)
    assert not done
    running.cancel()
    async with asyncio.timeout(LIMIT_S):
        await waiting
        await writer.close()


async def test_a_read_end_that_is_closed_before(running: asyncio.Task[None]) -> None:
    """The message is dropped without an error."""
    read_end, writer = open_pipe()
    os.close(read_end)
    writer.send(b"short")
    async with asyncio.timeout(LIMIT_S):
        await writer.sent(running)
        await writer.close()


async def test_a_read_end_that_is_closed_meanwhile(running: asyncio.Task[None]) -> None:
    """The part that did not fit is dropped without an error."""
    read_end, writer = open_pipe()
    writer.send(LARGE)
    os.close(read_end)
    async with asyncio.timeout(LIMIT_S):
        await writer.sent(running)
        await writer.close()


async def test_closing_gives_up_the_rest(pipe: tuple[int, PipeWriter]) -> None:
    """The reader gets the beginning, and then the end of the pipe."""
    read_end, writer = pipe
    writer.send(LARGE)
    await writer.close()
    read = await asyncio.to_thread(read_all, read_end)
    assert len(read) < len(LARGE)
    assert LARGE.startswith(read)
