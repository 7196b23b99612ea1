"""Wake-ups: they say "look" and carry nothing; from the exporter's owner, and from commits in this process."""

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
    """Wait until `wake` is set, and clear it, but no longer than `seconds`; whether it was set."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await wake.wait()
    except TimeoutError:
        return False
    wake.clear()
    return True


class Bell:
    """An event of one event loop that any thread may ring."""

    def __init__(self, wake: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        self._wake = wake
        self._loop = loop
        self._again: asyncio.TimerHandle | None = None

    def ring(self, *, again: bool = False) -> None:
        """Set the event; with `again` a second time soon after. From any thread, at any time."""
        if self._wake.is_set() and not (again and self._again is None):
            return  # thousands of commits a second must not fill the loop's queue
        try:
            self._loop.call_soon_threadsafe(self._set, again)
        except RuntimeError:  # the loop is closed: nobody is waiting any more
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
    """While in here, `wake` is set by the commits of all watched engines. To be entered in a running loop."""
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
    """Wake every exporter of this process on each commit of this engine; any number of times is once.

    A commit only makes an exporter look sooner: what is missed here is found at the next check.
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
    # SQLAlchemy says so before the driver commits, so this is rung again when the connection goes back
    # to its pool, and after a moment for a connection that is kept.
    connection.info[_COMMITTED] = True
    wake_all(again=True)


def _checked_in(_: object, record: Any) -> None:
    if record.info.pop(_COMMITTED, False):
        wake_all()
