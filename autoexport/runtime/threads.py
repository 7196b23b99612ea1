"""Runs blocking work off the event loop."""

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
    """Whether `sys.executable` can be started as Python. In a frozen program it would start the program again."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`, but a cancelled caller waits until the thread has ended.

    A thread cannot be cancelled. If its caller returned at once, the thread would continue without the lock, the
    descriptors and the directories that the caller held for it.
    """
    return await in_stoppable_thread(threading.Event(), function, *args, **kwargs)


async def in_stoppable_thread(
    stop: threading.Event, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """As `in_thread`; cancelling the caller sets `stop`, which the function may check."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):  # cancelled again: the first one is raised below
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # mark it as retrieved: the caller was cancelled and needs it no more
        raise
