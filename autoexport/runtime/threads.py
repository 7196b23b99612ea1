"""What the event loop must not do itself: blocking work in a thread, or in a process where one can be started."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def is_interpreter() -> bool:
    """Whether `sys.executable` can be started as Python. A frozen program cannot: it would run once more."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`, but a cancelled caller waits for the thread before it goes on.

    A thread cannot be cancelled. If its caller left at once, it would work on without the lock, the
    descriptors and the directories that the caller held for it.
    """
    return await in_stoppable_thread(threading.Event(), function, *args, **kwargs)


async def in_stoppable_thread(
    stop: threading.Event, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """As `in_thread`; when the caller is cancelled, `stop` is set, which the function may look at."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):  # Once more: this one is raised below.
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # It is of no interest any more, and must not be reported as never retrieved.
        raise
