"""Runs blocking work off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def usable_cores() -> int:
    """The number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


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


def in_daemon_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Run a function of unknown duration in a thread that the end of the program does not wait for.

    Cancelling the future only stops the waiting for it.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = context.run(function, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - the waiting task gets it
            # A future refuses a StopIteration. What would end this thread must not end the event loop.
            ordinary = isinstance(error, Exception) and not isinstance(error, StopIteration)
            deliver(future.set_exception, error if ordinary else RuntimeError(repr(error)))
        else:
            deliver(future.set_result, result)

    def deliver(setter: Callable[[Any], None], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(lambda: None if future.done() else setter(value))

    threading.Thread(target=run, name="autoexport", daemon=True).start()
    return future
