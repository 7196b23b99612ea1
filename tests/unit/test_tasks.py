"""Waiting for tasks that must not be left behind, however often the waiting is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from autoexport.daemon.detector import detect
from autoexport.daemon.health import Health
from autoexport.publishing.file_watch import PublishedFilesWatch
from autoexport.publishing.locks import LEADER_LOCK, Lock
from autoexport.runtime.interruption import interrupt_work, interruptible, is_interrupted
from autoexport.runtime.tasks import ended
from tests.daemon import LIMIT_S
from tests.deadlines import deadline_s


async def test_a_cancelled_caller_still_waits() -> None:
    """Cancelled twice, it waits until the task has ended, and is cancelled then."""
    go = asyncio.Event()

    async def fails() -> None:
        await go.wait()
        raise ValueError("not interesting")

    task = asyncio.ensure_future(fails())
    waiting = asyncio.ensure_future(ended(task))
    for _ in range(2):
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        assert not waiting.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert task.done()
    await ended(task)


async def test_a_detector_that_is_cancelled_twice_closes_its_checks(tmp_path: Path) -> None:
    """A check takes a while to end, as one in a thread does. It ends before its generator is closed."""
    lock = Lock(tmp_path, LEADER_LOCK)
    assert lock.try_take()
    begun, may_end = asyncio.Event(), asyncio.Event()
    closed: list[bool] = []

    async def checks() -> AsyncIterator[bool]:
        try:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                await may_end.wait()
            yield True
        finally:
            closed.append(True)

    queue: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
    detecting = asyncio.create_task(detect(checks(), queue, PublishedFilesWatch(tmp_path, lock), Health(1.0), 1.0))
    async with asyncio.timeout(deadline_s(LIMIT_S)):
        await begun.wait()
        for _ in range(2):
            detecting.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
        assert not detecting.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await detecting
    assert closed == [True]


def test_work_is_interrupted_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each function is called while it is registered, whatever another one raises."""
    import threading

    monkeypatch.setattr("autoexport.runtime.interruption._interrupted", threading.Event())
    called: list[str] = []

    def fails() -> None:
        raise ValueError("it has ended already")

    with interruptible(fails), interruptible(lambda: called.append("statement")):
        assert not is_interrupted()
        interrupt_work()
    interrupt_work()
    assert called == ["statement"]
    assert is_interrupted()
