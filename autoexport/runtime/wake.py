"""Wakes exporters early: when their owner asks, or when a watched engine of this process commits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

_AGAIN_S = 0.25
_COMMITTED = "autoexport: committed"


async def pause(wake: asyncio.Event, seconds: float) -> bool:
    """Wait until `wake` is set, at most `seconds`; if it was set, clear it and return true."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await wake.wait()
    except TimeoutError:
        return False
    wake.clear()
    return True


class Bell:
    """Sets an event of an event loop from any thread."""

    def __init__(self, wake: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        self._wake = wake
        self._loop = loop
        self._again: asyncio.TimerHandle | None = None

    def ring(self, *, again: bool = False) -> None:
        """Set the event; with `again`, set it a second time `_AGAIN_S` later. From any thread, at any time."""
        if self._wake.is_set() and not (again and self._again is None):
            return  # thousands of commits a second must not fill the queue of the event loop
        try:
            self._loop.call_soon_threadsafe(self._set, again)
        except RuntimeError:  # the event loop is closed, and its exporter with it
            return

    def _set(self, again: bool) -> None:
        self._wake.set()
        if again and self._again is None:
            self._again = self._loop.call_later(_AGAIN_S, self._set_again)

    def _set_again(self) -> None:
        self._again = None
        self._wake.set()


_lock = threading.Lock()
_bells: list[Bell] = []


@contextmanager
def hearing_commits(wake: asyncio.Event) -> Iterator[None]:
    """Inside, the commits of all watched engines set `wake`. Enter it in a running event loop."""
    bell = Bell(wake, asyncio.get_running_loop())
    with _lock:
        _bells.append(bell)
    try:
        yield
    finally:
        with _lock:
            _bells.remove(bell)


def wake_all(*, again: bool = False) -> None:
    """Wake every exporter of this process that uses hooks. From any thread."""
    with _lock:
        bells = tuple(_bells)
    for bell in bells:
        bell.ring(again=again)


def watch_engine(engine: Engine | AsyncEngine) -> None:
    """Wake every exporter of this process on each commit of this engine. Repeated calls change nothing.

    A commit only makes an exporter check sooner: the next regular check finds a commit that is missed here.
    """
    from sqlalchemy import event
    from sqlalchemy.ext.asyncio import AsyncEngine

    sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    for name, listener in (
        ("commit", _committing),
        ("commit_twophase", _committing),
        ("checkin", _checked_in),
    ):
        if not event.contains(sync_engine, name, listener):
            event.listen(sync_engine, name, listener)


def _committing(connection: Any, *_: object) -> None:
    # SQLAlchemy calls this before the driver commits. So the exporters are woken again when the connection returns
    # to its pool, and a moment later in case the application keeps the connection.
    connection.info[_COMMITTED] = True
    wake_all(again=True)


def _checked_in(_: object, record: Any) -> None:
    if record.info.pop(_COMMITTED, False):
        wake_all()
