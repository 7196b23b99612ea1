"""Runs blocking work off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


_PYTHON = re.compile(r"(python|pypy)[\d.]*[a-z]*")


def is_interpreter() -> bool:
    """Whether `sys.executable` can be started as Python: every process of ours is started only if it can.

    In a frozen program, and in an application that embeds Python, it would start that program again.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        return False
    return _PYTHON.fullmatch(os.path.basename(sys.executable)) is not None


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
